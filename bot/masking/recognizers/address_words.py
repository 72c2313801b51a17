"""The words of street addresses, by language. Data only; `address` says how they combine."""

from typing import Final

SUFFIX: Final = (
    r"(?:street|st|avenue|ave|av|road|rd|boulevard|blvd|lane|ln|drive|dr|terrace|ter|square|sq|highway|hwy|parkway|pkwy|"
    r"circle|cir|crescent|cres|"
    r"gardens|gdns|grove|mews|alley|trail|trl|turnpike|expressway|esplanade|promenade|quay|wharf)"
)

CAP_SUFFIX: Final = (
    r"(?:Court|Ct|Way|Place|Pl|Close|Row|Walk|Loop|Plaza|Hill|Rise|View|Green|Park|Bridge|Crossing|Crossroad|Point|Ridge|Run|"
    r"Path|Pike|Station|Track|"
    r"Mall|Manor|Meadows?|Mill|Mount|Pass|Passage|Port|Shore|Spring|Springs|Spur|Summit|Valley|Vista|Village|Estates?|"
    r"Extension|Ext|Fields?|Ford|Forest|"
    r"Forge|Fork|Glen|Harbor|Heights|Hollow|Island|Isle|Junction|Key|Knoll|Lake|Landing|Burgs?|Bypass|Camp|Canyon|Cape|"
    r"Causeway|Center|Centers|Cliffs?|"
    r"Club|Common|Corner|Corners|Course|Courts|Cove|Creek|Crest|Curve|Dale|Dam|Divide|Drives|Falls|Ferry|Flats?|Freeway|"
    r"Gateway|Groves|Haven|Inlet|"
    r"Keys|Land|Light|Lights|Locks|Lodge|Motorway|Neck|Orchard|Oval|Overpass|Parks|Parkways|Pine|Pines|Plain|Plains|Prairie|"
    r"Radial|Ramp|Ranch|Rapid|"
    r"Rest|River|Roads|Route|Rue|Shoal|Shores|Skyway|Stravenue|Stream|Streets|Throughway|Trace|Trafficway|Tunnel|Underpass|"
    r"Union|Viaduct|Ville|Walks|"
    r"Wall|Ways|Well|Wells|Woods?|Junctions|Mountains?|Harbors|Knolls|Forges|Forks|Fords|Forests|Glens|Greens|Hills|Islands|"
    r"Lakes|Loaf|Manors|Mills|Mission|Ports|Ridges|"
    r"Rivers|Shoals|Spurs|Squares|Streams|Trails|Unions|Valleys|Views|Villages|Reach|Retreat|Edge|Nagar|Marg|Chowk|Colony|"
    r"Layout|Sector)"
)

GERMANIC: Final = (
    r"(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ring|damm|ufer|chaussee|"
    r"straat|laan|plein|gracht|kade|dijk|singel|steeg|baan|dreef|pad|hof|"
    r"allé|stræde|torget|stigen|gatan|vägen|veien|vegen|gade|vej|gata|katu|tie|kuja|gränd)"
)

ROMANCE: Final = (
    r"(?:Calle|C/|C\.|Cl\.|Avenida|Av\.|Avda\.?|Paseo|P[ºo]\.|Plaza|Pza\.|Pl\.|Ronda|Camino|Carretera|Cuesta|Glorieta|Pasaje|"
    r"Vial|Urbanización|Callejón|Rambla|"
    r"Privada|Prolongación|Circuito|Boulevard|Calzada|Carrera|Via|Viale|Piazza|Piazzetta|Corso|Largo|Vicolo|Strada|Stretto|"
    r"Borgo|Contrada|Rotonda|Incrocio|Canale|"
    r"Rua|R\.|Travessa|Trav\.|Praça|Estrada|Alameda|Jalan|Jl\.|Jln|Gang|Gg\.|Strada|Str\.|Aleea|Bulevardul|Intrarea|Calea)"
)

SLAVIC: Final = r"(?:ul\.|ulica|al\.|aleja|pl\.|plac|os\.|ulice|nám\.|náměstí|námestie|trg|cesta|Ulica|Trg)"
