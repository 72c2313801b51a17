"""The words around names, by language: greetings, sign-offs, introductions, headers. Data only; `names` says how they combine."""

from typing import Final

GENERIC: Final = frozenset(
    """team support all there everyone everybody sir madam customer customers service services folks guys helpdesk help desk admin administrator
    friend friends colleague colleagues both again agent bot user users it hr sales billing finance marketing engineering operations ops security
    office management manager management department dept company group gmbh ltd inc llc corp bank hello hi hey dear thanks thank you regards
    best kind sent from iphone android outlook mobile phone office director head lead senior engineer developer analyst consultant assistant
    president chief officer ceo cto cfo vp account subject date to cc re fw fwd note notes error warning info debug status priority issue
    question answer summary description steps expected actual result version environment browser device order ticket invoice update please
    not sure having unable trying still getting writing looking using happy sorry glad just so very really also currently now here interested
    the a an my our your this that is was are in on at for with and or but new old good great fine ok okay yes no web site website
    monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october november december
    english french german spanish italian dutch american british indian chinese japanese valued member partner hiring sir/madam whom concern
    system server client api app unknown anonymous n/a none null test guest default main chat live virtual automated noreply gmt utc am pm
    windows chrome firefox safari google microsoft apple amazon slack zoom teams jira zendesk""".split()
)

STOP_AFTER: Final = frozenset(
    """and from i but with of at in on the a an is was who which that my our your for to as or because so im i'm working here calling writing
    contacting customer by not we he she they it this just have had has can could would will please having unable account order via""".split()
)

HONORIFIC: Final = (
    r"(?:mr|mrs|ms|mx|miss|dr|prof|professor|sir|herr|herrn|frau|hr|monsieur|"
    r"madame|mme|mlle|señor|señora|sr|sra|signor|signora|sig|mevrouw|meneer|dhr|mevr|pan|pani|dott|ing|dipl)"
)

GREETING: Final = (
    r"(?:hi|hello|hey|dear|hiya|howdy|greetings|morning|good (?:morning|afternoon|evening|day)|hallo|hej|hei|liebe[rs]?|"
    r"guten (?:tag|morgen)|moin|servus|sehr geehrte[rsn]?|"
    r"bonjour|bonsoir|salut|cher|chère|hola|buenos días|buenas tardes|estimad[oa]|querid[oa]|ciao|buongiorno|gentile|caro|"
    r"cara|olá|bom dia|boa tarde|prezad[oa]|"
    r"caro|beste|geachte|dag|kære|kära|cześć|dzień dobry|szanown[ya]|witam|drogi|droga|ahoj|dobrý den|merhaba|sayın|bună|"
    r"szia|kedves|thanks|thank you|thx|ty|cheers)"
)

CLOSING: Final = (
    r"(?:(?:kind|best|warm|warmest|many|with kind|with best|kindest)?[ ]?regards|thanks(?: again| a lot| so much| in advance|"
    r" and regards)?|thank you(?: very much| so much)?|many thanks|"
    r"cheers|best(?: wishes)?|sincerely(?: yours)?|yours(?: truly| sincerely| faithfully)?|respectfully|cordially|take care|"
    r"talk soon|br|rgds|kr|thx|ty|"
    r"mit (?:freundlichen|besten|lieben) grüßen|(?:freundliche|viele|beste|liebe|schöne) grüße|mfg|vg|lg|gruß|danke|"
    r"cordialement|bien à vous|salutations|merci|amicalement|saludos(?: cordiales)?|un saludo|atentamente|gracias|"
    r"cordiali saluti|distinti saluti|grazie|"
    r"met vriendelijke groet(?:en)?|groeten|groetjes|mvg|atenciosamente|obrigad[oa]|abraços|vänliga hälsningar|"
    r"med vänlig hälsning|hälsningar|mvh|"
    r"venlig hilsen|med venlig hilsen|hilsen|terveisin|pozdrawiam|z poważaniem|s pozdravem|saygılarımla|cu stimă|üdvözlettel|"
    r"signed)"
)

INTRODUCTION: Final = (
    r"(?:my (?:full |first |last )?name(?:'s| is| was)|name is|i am called|ich heiße|mein name ist|je m'appelle|mon nom est|"
    r"me llamo|mi nombre es|"
    r"mi chiamo|il mio nome è|mijn naam is|ik heet|meu nome é|me chamo|nazywam się|mam na imię|jag heter|mitt namn är|"
    r"jeg hedder|mit navn er|jeg heter|nimeni on|"
    r"jmenuji se|a nevem|numele meu este|adım)"
)

WEAK_INTRODUCTION: Final = (
    r"(?:call me|i go by|they call me|this is|i am|i'm|im|it is|it's|ich bin|hier ist|je suis|c'est|soy|sono|ik ben|sou|"
    r"jestem|jag är|jeg er|spoke (?:to|with)|speaking (?:to|with)|talked (?:to|with)|"
    r"chatted with|meet|met with|contact|contacted|ask for|asked|told|reach out to|reached out to|emailed|e-mailed|called|cc|"
    r"ccing|loop in|looping in|adding|with|by|from|"
    r"assigned to|escalated to|approved by|submitted by|reported by|signed by|created by|requested by|sent by|on behalf of|"
    r"attn:?|attention:?|c/o|thanks,?|thank you,?|hi|hey|"
    r"(?:my|his|her|our|the)[ ](?:wife|husband|son|daughter|partner|mother|father|mum|mom|dad|brother|sister|boss|manager|"
    r"colleague|coworker|co-worker|assistant|friend|"
    r"neighbou?r|secretary|supervisor|director|landlord|lawyer|doctor|nurse|teacher|teammate|flatmate|roommate|"
    r"accountant)(?:'s name is|, | is | )?)"
)

HEADER: Final = (
    r"(?:from|to|cc|bcc|von|an|de|à|name|full[ _]?name|first[ _]?name|last[ _]?name|surname|given[ _]?name|family[ _]?name|"
    r"middle[ _]?name|display[ _]?name|maiden[ _]name|"
    r"customer(?:[ _]?name)?|client(?:[ _]?name)?|contact(?:[ _]?person|[ _]?name)?|requester|reporter|reported by|assignee|"
    r"assigned(?: to)?|agent|user|caller|"
    r"submitted by|created by|opened by|closed by|updated by|requested by|approved by|signed by|sent by|author|"
    r"account holder|cardholder(?: name)?|card holder|name on card|"
    r"passenger(?: name)?|guest|patient|employee|student|tenant|beneficiary|recipient|consignee|ship to|bill to|deliver to|"
    r"sold to|attn|attention|signed|kunde|kundin|"
    r"vorname|nachname|nom|prénom|nombre|apellidos?|cognome|naam|sender|next of kin|emergency contact|line manager|"
    r"supervisor|manager|technician|engineer|driver|owner)"
)
