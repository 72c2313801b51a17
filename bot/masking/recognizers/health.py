"""Medical details: conditions, treatments and drugs. Off by default: a shoe shop does not need it, a clinic's help desk does.

A short word list and the endings of generic drug names; what is not listed is found only after "diagnosed with" and the like.
"""

from typing import Final

from bot.masking.rules import Rule

_CONDITIONS: Final = (
    "adhd|aids|alcoholism|allerg(?:y|ies) to \\w+|alzheimer'?s?(?: disease)?|anaemia|anemia|angina|anorexia|anxiety disorder|arthritis|asperger'?s?|"
    "asthma|autis(?:m|tic)|bipolar(?: disorder)?|(?:breast|lung|skin|prostate|bowel|colon|liver|brain|ovarian|bladder) cancer|cancer|cerebral palsy|"
    "chemotherapy|chlamydia|(?:chronic )?fatigue syndrome|cirrhosis|coeliac disease|colitis|copd|covid(?:-19)?|crohn'?s?(?: disease)?|"
    "cystic fibrosis|deaf(?:ness)?|dementia|(?:post-?natal |clinical )?depression|diabet(?:es|ic)(?: type [12])?|type [12] diabet(?:es|ic)|dialysis|"
    "down'?s syndrome|dyslexia|eating disorder|eczema|endometriosis|epilep(?:sy|tic)|fibromyalgia|glaucoma|gonorrh(?:o)?ea|gout|"
    "ha?emophilia|heart (?:attack|disease|"
    "failure|condition)|hepatitis(?: [abc])?|herpes|high blood pressure|hiv(?:[- ]positive)?|hysterectomy|ibs|infertility|insomnia|ivf|kidney "
    "(?:failure|disease|stones)|leuk(?:a)?emia|lupus|lymphoma|melanoma|menopause|migraines?|miscarriage|multiple sclerosis|muscular dystrophy|ocd|"
    "osteoporosis|panic attacks?|paranoia|parkinson'?s?(?: disease)?|pneumonia|pregnan(?:t|cy)|psoriasis|psychosis|ptsd|radiotherapy|rheumatism|"
    "schizophreni(?:a|c)|scoliosis|sepsis|sickle cell(?: disease)?|sleep apn(?:o)?ea|stroke|suicidal(?: thoughts)?|syphilis|tinnitus|tuberculosis|"
    "tumou?rs?|ulcers?|wheelchair user"
)
_DRUGS: Final = (
    "aspirin|codeine|cortisone|fentanyl|heparin|ibuprofen|insulin|lithium|metformin|methadone|morphine|naloxone|oxycodone|paracetamol|prozac|ritalin|"
    "tramadol|valium|viagra|warfarin|xanax|zoloft|"
    r"\w{3,14}(?:cillin|mycin|prazole|sartan|statin|olol|oxetine|traline|azepam|azolam|tidine|gliptin|gliflozin|lukast|triptan|vir|mab|tinib|prazole)"
)

RULES: Final = (
    Rule("HEALTH", rf"\b(?P<pii>{_CONDITIONS})\b", 0.7),
    Rule("HEALTH", rf"\b(?P<pii>{_DRUGS})\b(?:[ ]\d{{1,4}}[ ]?(?:mg|mcg|ml|iu))?", 0.7),
    Rule(
        "HEALTH",
        r"\b(?:diagnosed with|diagnosis(?: is| was|:)|suffer(?:s|ing|ed)? from|being treated for|treatment for|allergic to|prescribed|"
        r"recovering from|tested positive for)[ ](?:an?[ ]|the[ ]|my[ ]|severe[ ]|chronic[ ])?"
        r"(?P<pii>[^\W\d_][\w'\-]{2,30}(?:[ ](?:disease|syndrome|disorder|infection))?)",
        0.7,
        ("diagnos", "suffer", "treat", "allergic", "prescribed", "recover", "positive for"),
    ),
    Rule("HEALTH", r"\bblood (?:type|group)[ ](?:is[ ])?(?P<pii>(?:AB|A|B|O)[+\-])", 0.8, ("blood",)),
    Rule("HEALTH", r"\b(?:icd-?10|icd)[ :]{1,2}(?P<pii>[A-Z]\d\d(?:\.\d{1,2})?)\b", 0.9, ("icd",)),
)
