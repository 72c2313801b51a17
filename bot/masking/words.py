"""Words that the name model takes for names and places though they are none. Data only."""

from typing import Final

NO_NAMES: Final = frozenset(  # as `casefold` writes them: grüsse
    """iban bic swift ssn dob otp pin cvv cvc vpn mfa sso api url sdk jwt amex visa mastercard maestro paypal host cookie error warning info debug
    status queue billing wifi outlook bitcoin ethereum btc eth eta gold silver platinum premium freemium password
    aadhaar pesel nino steuer steuer-id danke merci gracias grazie
    el mar lun mié jue vie sáb dom mo di mi do fr sa so zo ma wo vr za iban nr handy grüsse grüssen gruss viele mit buyer sr pickup
    mailgun twilio zapier sendgrid stripe intercom hubspot salesforce zendesk freshdesk atlassian jira confluence github gitlab bitbucket okta auth0
    datadog grafana splunk sentry pagerduty heroku netlify vercel cloudflare fastly shopify magento woocommerce squarespace wix klarna adyen braintree
    paypal venmo revolut mailchimp marketo segment mixpanel amplitude airtable notion asana trello monday miro figma canva dropbox docusign quickbooks
    xero netsuite workday sap oracle snowflake databricks redis postgres mysql mongodb kafka kubernetes docker jenkins ansible terraform vault
    van verzonden aan onderwerp von gesendet an envoyé à objet para enviado da inviato fra til emne från till ämne od wysłano do de para cc bcc re fw
    dzień dobry bom dia boa tarde buenos días buenas tardes bonsoir guten tag morgen abend hallo ciao salve hej moi morada celular cpf rg nif mobil
    januar februar märz juni juli oktober dezember janvier février mars avril juin juillet août enero febrero marzo junio julio agosto gennaio
    febbraio maggio giugno luglio settembre januari februari maart mei augustus lunes martes lundi mardi montag dienstag mittwoch donnerstag
    freitag samstag sonntag maandag dinsdag woensdag donderdag vrijdag
    kennwort passwort benutzername bestellnummer bestellung kundennummer kundin kunde rechnung rechnungsnummer lieferung lieferadresse karte konto
    vorname nachname adresse anschrift telefon handy betreff antwort anfrage anhang leiter leiterin geschäftsführer mitarbeiter abteilung support
    zustellung rückerstattung erstattung vertrag vertragsnummer gutschrift sendung paket anmeldung
    commande facture mot passe compte carte livraison adresse objet bonjour téléphone prénom client numéro remboursement colis
    contraseña pedido factura tarjeta cuenta entrega dirección asunto teléfono cliente número reembolso usuario clave paquete hola
    senha conta cartão fatura encomenda endereço assunto telefone cliente usuário ordine fattura carta spedizione indirizzo oggetto
    wachtwoord bestelling factuur klantnummer rekening levering pakket adres onderwerp gebruikersnaam
    mein meine meinem meinen unser unsere ihr ihre bitte leider nicht wird ist sehr geehrte der die das mon ma votre notre mi su nuestro minha mio mia
    hasło zamówienie faktura konto karta przesyłka adres temat lösenord beställning leverans ärende adress""".split()
)
"""Words the name model now and then takes for a name, because they stand where names stand; mostly of forms in other languages."""

DEMONYMS: Final = frozenset(
    """afghan african albanian algerian american arab arabian arabic argentine argentinian armenian asian australian austrian bangladeshi
    belgian bolivian bosnian brazilian british bulgarian cambodian cameroonian canadian catalan caucasian chilean chinese
    christian colombian croatian cuban cypriot czech danish dutch ecuadorian egyptian english estonian ethiopian european filipino
    finnish flemish french georgian german ghanaian greek hawaiian hungarian icelandic indian indonesian iranian iraqi irish
    islamic israeli italian jamaican japanese jewish jordanian kenyan korean kurdish kuwaiti latin latino latvian lebanese libyan
    lithuanian malaysian maltese mexican mongolian moroccan muslim nepalese nigerian nordic norwegian pakistani palestinian
    persian peruvian polish portuguese romanian russian saudi scandinavian scottish serbian sikh singaporean slovak slovenian
    somali spanish sudanese sunni swedish swiss syrian taiwanese thai tibetan tunisian turkish ukrainian venezuelan vietnamese
    welsh yemeni""".split()
) - {"georgian", "jordanian"}
"""Adjectives of places: no place by themselves."""
