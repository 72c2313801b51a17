"""What is said of each table and column in the data map. One entry per table, one line per column; a test compares them with the tables.

Forms: masked (placeholders in place of personal data), encrypted, hash (keyed), staff (names of the team), identifier (of another system),
text (written by us or by administrators), state, number, time, reference (to a row or an adapter).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Column = tuple[str, str]

_ID: Final[Column] = ("reference", "number of the row")
_TASK: Final[Column] = ("state", "classification or summary")
_ACTOR: Final[Column] = ("staff", "who did it: the name a member of the team goes by")
_MADE: Final[Column] = ("time", "when it was made")
_DIGEST: Final[Column] = ("reference", "digest of a model or an adapter")
_VERSION: Final[Column] = ("reference", "version of the label set or the prompt")
_RUN: Final[Column] = ("reference", "the training run")
_TICKET: Final[Column] = ("reference", "the ticket")

_TEAM: Final = "everyone with access to the console, and plugins"
_MANAGERS: Final = "managers, by console and command line"
_NOWHERE: Final = "nowhere"
_NOT_PERSONAL: Final = "nothing: it holds no customer's data"
_HELPDESK: Final = "through plugins to the helpdesk or chat that the ticket came from"
_FOREVER: Final = "no limit: it says who is accountable for what was live"
_OVERWRITTEN: Final = "overwritten in place"


@dataclass(frozen=True)
class TableEntry:
    """What is said of a table. `retention` names a setting of retention, "vault_days", or says it in words."""

    holds: str
    retention: str
    readers: str
    leaves: str
    on_erasure: str
    columns: Mapping[str, Column]


TICKETS: Final[dict[str, TableEntry]] = {
    "ticket": TableEntry(
        "Tickets as they came in, masked.",
        "ticket_text_days",
        _TEAM,
        f"{_HELPDESK}; masked to a model server, where one is configured",
        "deleted",
        {
            "id": _ID,
            "plugin": ("identifier", "which plugin brought it"),
            "external_id": ("identifier", "its id in the system it came from"),
            "subject": ("masked", "subject line"),
            "text": ("masked", "first message"),
            "turns": ("masked", "conversation: speakers and texts"),
            "status": ("state", "open, decided, handed off, withheld"),
            "is_blind": ("state", "whether it belongs to the blind sample"),
            "group_key": ("hash", "keyed hash of the customer, from imports: ties their tickets together"),
            "created_at": _MADE,
            "updated_at": ("time", "when it last changed"),
        },
    ),
    "vault_entry": TableEntry(
        "What the placeholders of a ticket stand for. Without a vault key there are no rows.",
        "vault_days",
        "the bot itself, to show a ticket to the team; nobody without the key",
        "unmasked to whoever is shown the ticket; never secrets, card numbers or ids",
        "deleted",
        {
            "ticket_id": _TICKET,
            "ciphertext": ("encrypted", "names, addresses, numbers and secrets of the ticket, by placeholder (Fernet)"),
            "expires_at": ("time", "when it is deleted"),
        },
    ),
    "inference": TableEntry(
        "What the model answered.",
        "inference_days",
        _TEAM,
        _HELPDESK,
        "deleted; what other tickets quote of it is taken out of theirs",
        {
            "id": _ID,
            "ticket_id": _TICKET,
            "task": _TASK,
            "model_kind": ("state", "encoder or decoder"),
            "base_digest": _DIGEST,
            "adapter_digest": _DIGEST,
            "label_set_version": _VERSION,
            "prompt_version": _VERSION,
            "label": ("state", "the label suggested"),
            "confidence": ("number", "its probability"),
            "output": (
                "masked",
                "probabilities, the reason, excerpts of similar tickets, the summary and the lines it was made of",
            ),
            "is_blind": ("state", "whether it was hidden until the person had chosen"),
            "is_truncated": ("state", "whether the middle of the text was left out"),
            "latency_ms": ("number", "how long it took"),
            "created_at": _MADE,
        },
    ),
    "feedback": TableEntry(
        "What people decided on suggestions.",
        "feedback_days",
        _TEAM,
        _HELPDESK,
        "deleted",
        {
            "id": _ID,
            "inference_id": ("reference", "the suggestion"),
            "ticket_id": _TICKET,
            "task": _TASK,
            "kind": ("state", "accept, edit, override, handoff"),
            "actor": _ACTOR,
            "idempotency_key": ("identifier", "names the click, so that it counts once"),
            "value": ("masked", "the label chosen, or the edited summary"),
            "reason": ("masked", "why, in the person's words"),
            "decision_ms": ("number", "time from the card to the click"),
            "replaced_by_id": ("reference", "the later feedback that counts instead"),
            "is_passive": ("state", "whether it was read from the helpdesk"),
            "withdrawn_at": ("time", "when it was taken back"),
            "created_at": _MADE,
        },
    ),
    "example": TableEntry(
        "Labelled examples that adapters learn from.",
        "example_days",
        "training; managers, by console and `understudy export`",
        "masked into files that `understudy export` writes; what was learned goes into adapters",
        "deleted; adapters that learned from it are marked and a new run is asked for",
        {
            "id": _ID,
            "ticket_id": _TICKET,
            "feedback_id": ("reference", "the feedback that made it"),
            "task": _TASK,
            "text": ("masked", "what the model read"),
            "turns": ("masked", "conversation"),
            "target": ("masked", "the label, or the summary to give"),
            "draft": ("masked", "what had been suggested"),
            "is_negative": ("state", "whether it says what not to answer"),
            "is_blind": ("state", "whether it was chosen without seeing the suggestion"),
            "weight": ("number", "how much it counts"),
            "split": ("state", "training, validation, test or golden"),
            "group_key": ("hash", "as the ticket's"),
            "label_set_version": _VERSION,
            "is_withdrawn": ("state", "whether it is kept for the audit alone"),
            "created_at": _MADE,
        },
    ),
}

PEOPLE: Final[dict[str, TableEntry]] = {
    "review_item": TableEntry(
        "Questions about examples for people to settle.",
        "review_days",
        _MANAGERS,
        _NOWHERE,
        "deleted where no other ticket is part of the question",
        {
            "id": _ID,
            "kind": ("state", "why it is asked"),
            "status": ("state", "open, resolved, dismissed"),
            "task": _TASK,
            "content_key": ("hash", "digest of what it is about, so that it is asked once"),
            "priority": ("number", "which is asked first"),
            "run_id": _RUN,
            "reason": ("masked", "why somebody asked"),
            "resolution": ("state", "the label chosen"),
            "resolved_by": _ACTOR,
            "resolved_at": ("time", "when it was settled"),
            "created_at": _MADE,
        },
    ),
    "review_side": TableEntry(
        "The sides of a question: a label and who chose it.",
        "review_days",
        _MANAGERS,
        _NOWHERE,
        "deleted",
        {
            "id": _ID,
            "item_id": ("reference", "the question"),
            "example_id": ("reference", "the example"),
            "ticket_id": _TICKET,
            "label": ("state", "the label"),
            "actor": _ACTOR,
            "at": ("time", "when it was chosen"),
            "confidence": ("number", "the model's probability"),
        },
    ),
    "privacy_correction": TableEntry(
        "What people say about masking: to be masked, or not personal. In force while approved.",
        "correction_days",
        "reviewers, by console and command line; the masker, as hashes",
        _NOWHERE,
        "deleted; one in force is kept as a bare keyed hash, so that the phrase stays masked",
        {
            "id": _ID,
            "kind": ("state", "mask or keep"),
            "entity": ("state", "type of the phrase"),
            "status": ("state", "open, approved, rejected"),
            "ticket_id": _TICKET,
            "phrase_hash": ("hash", "the phrase under a key derived from the vault key, or from this installation's secret"),
            "hash_key": ("reference", "which key"),
            "n_words": ("number", "words of the phrase"),
            "ciphertext": ("encrypted", "the phrase (Fernet); empty without a vault key and once rejected"),
            "context": ("masked", "the text around the phrase, with a hole in its place"),
            "actor": _ACTOR,
            "reason": ("masked", "why it was approved or rejected"),
            "reviewed_by": _ACTOR,
            "reviewed_at": ("time", "when it was reviewed"),
            "remasked_at": ("time", "when stored texts had been searched"),
            "n_remasked": ("number", "how many held it"),
            "created_at": _MADE,
        },
    ),
    "audit": TableEntry(
        "Who did what to which thing, when. Rows are only ever added.",
        "audit_days",
        _MANAGERS,
        _NOWHERE,
        "kept: it names tickets by number and holds no values; a name found in a reason is masked",
        {
            "id": _ID,
            "at": _MADE,
            "actor": _ACTOR,
            "action": ("state", "what was done"),
            "subject_type": ("state", "to what kind of thing"),
            "subject_id": ("reference", "to which one"),
            "detail": ("masked", "counts, digests, and reasons in people's words"),
        },
    ),
    "plugin_event": TableEntry(
        "What reached plugins, until it is handled.",
        "event_days",
        "the plugin it is for",
        "as the plugin handles it",
        "emptied where it mentions the ticket or the person",
        {
            "id": _ID,
            "plugin": ("identifier", "whose it is"),
            "key": ("identifier", "names the event, so that it is handled once"),
            "kind": ("state", "what kind of event"),
            "group_key": ("identifier", "what it is handled in order with, such as a conversation"),
            "ciphertext": ("encrypted", "the event itself, which may hold a message; empty once it is handled"),
            "status": ("state", "waiting, done, failed"),
            "attempts": ("number", "tries"),
            "error": ("state", "type of the last error"),
            "available_at": ("time", "when it is tried next"),
            "claimed_by": ("state", "process that handles it"),
            "claimed_until": ("time", "until when"),
            "created_at": _MADE,
            "finished_at": ("time", "when it ended"),
        },
    ),
    "plugin_value": TableEntry(
        "Small facts that plugins keep: cursors, tokens, which message shows which card.",
        "until the plugin's own expiry",
        "the plugin it is for",
        "tokens go to the system they are for",
        "deleted where it mentions the ticket or the person",
        {
            "plugin": ("identifier", "whose it is"),
            "key": ("identifier", "its name, which may hold ids of another system"),
            "ciphertext": ("encrypted", "the value"),
            "expires_at": ("time", "when it is deleted"),
            "updated_at": ("time", "when it last changed"),
        },
    ),
}

MODELS: Final[dict[str, TableEntry]] = {
    "training_run": TableEntry(
        "Training runs: settings, counts, curves.",
        "run_days",
        _MANAGERS,
        "settings, counts and curves to MLflow or W&B, where tracking is set",
        "kept: it holds counts, no texts",
        {
            "id": _ID,
            "task": _TASK,
            "status": ("state", "where it stands"),
            "trigger": ("state", "what asked for it"),
            "actor": _ACTOR,
            "phase": ("state", "what it does"),
            "step": ("number", "step"),
            "total_steps": ("number", "steps"),
            "loss": ("number", "training loss"),
            "eta_s": ("number", "seconds left"),
            "message": ("text", "one sentence about progress"),
            "is_cancel_requested": ("state", "whether it is to stop"),
            "attempts": ("number", "how often it was taken up"),
            "settings": ("number", "its settings"),
            "data_digest": ("hash", "digest of the data it used"),
            "data_counts": ("number", "how many examples of what kind, by label"),
            "curves": ("number", "loss and scores over time"),
            "adapter_digest": _DIGEST,
            "error": ("text", "why it failed, without texts of tickets"),
            "created_at": _MADE,
            "started_at": ("time", "when it began"),
            "finished_at": ("time", "when it ended"),
        },
    ),
    "run_example": TableEntry(
        "Which example a run used, and for what, by number.",
        "run_days",
        _MANAGERS,
        _NOWHERE,
        "kept: a number without the example, so that adapters that learned from it stay known",
        {"run_id": _RUN, "example_id": ("reference", "the example, also one that is gone"), "split": ("state", "what for")},
    ),
    "gate_report": TableEntry(
        "What the gate decided about a candidate.",
        "run_days",
        _MANAGERS,
        "figures to MLflow or W&B, where tracking is set",
        _NOT_PERSONAL,
        {
            "id": _ID,
            "run_id": _RUN,
            "adapter_digest": _DIGEST,
            "is_passed": ("state", "whether it may go live"),
            "reasons": ("text", "why, in sentences about figures"),
            "numbers": ("number", "the figures"),
            "created_at": _MADE,
        },
    ),
    "adapter": TableEntry(
        "Adapter bundles, which lie in the home folder. Their weights, and the word list of an encoder, come from masked examples.",
        _FOREVER,
        _MANAGERS,
        "bundles to a model server, where one is configured",
        "marked where it learned from what was erased; deleting bundles that are not live is left to managers",
        {
            "id": _ID,
            "digest": _DIGEST,
            "task": _TASK,
            "model_kind": ("state", "encoder or decoder"),
            "base_digest": _DIGEST,
            "label_set_version": _VERSION,
            "prompt_version": _VERSION,
            "path": ("text", "folder of the bundle"),
            "status": ("state", "candidate, active, retired, rejected"),
            "run_id": _RUN,
            "metrics": ("number", "figures of the gate"),
            "reason": ("text", "why it was promoted or rejected, in a manager's words"),
            "created_at": _MADE,
            "activated_at": ("time", "when it went live"),
            "retired_at": ("time", "when it was replaced"),
            "erased_at": ("time", "when examples that it learned from were erased"),
            "n_erased": ("number", "how many"),
        },
    ),
    "activation": TableEntry(
        "Each change of what is live.",
        _FOREVER,
        _MANAGERS,
        _NOWHERE,
        _NOT_PERSONAL,
        {
            "id": _ID,
            "task": _TASK,
            "adapter_digest": _DIGEST,
            "previous_digest": _DIGEST,
            "is_rollback": ("state", "whether it went back"),
            "actor": _ACTOR,
            "reason": ("text", "why, in a manager's words"),
            "at": _MADE,
        },
    ),
    "label_set": TableEntry(
        "Versions of the team's label set.",
        _FOREVER,
        _TEAM,
        _NOWHERE,
        _NOT_PERSONAL,
        {
            "id": _ID,
            "version": _VERSION,
            "name": ("text", "its name"),
            "content_yaml": ("text", "the labels as the team wrote them"),
            "created_at": _MADE,
        },
    ),
    "licence_note": TableEntry(
        "Licences of base models, as somebody read and approved them.",
        _FOREVER,
        _MANAGERS,
        _NOWHERE,
        _NOT_PERSONAL,
        {
            "id": _ID,
            "base_digest": _DIGEST,
            "model_name": ("text", "the model"),
            "source": ("text", "where it came from"),
            "revision": ("text", "which version"),
            "licence": ("text", "its licence"),
            "restrictions": ("text", "what it forbids"),
            "commercial_use": ("text", "whether it may be used commercially"),
            "hosted_use": ("text", "whether it may be hosted for others"),
            "affiliate_use": ("text", "whether affiliates may use it"),
            "noted_on": ("time", "when it was read"),
            "approved_by": _ACTOR,
            "approved_at": ("time", "when it was approved"),
        },
    ),
    "lease": TableEntry(
        "Rights that one process at a time holds.",
        _OVERWRITTEN,
        "the processes themselves",
        _NOWHERE,
        _NOT_PERSONAL,
        {
            "name": ("state", "which right"),
            "holder": ("state", "which process"),
            "expires_at": ("time", "until when"),
        },
    ),
    "state": TableEntry(
        "Small facts that the processes share, and this installation's secrets for hashes.",
        _OVERWRITTEN,
        "the processes themselves",
        _NOWHERE,
        _NOT_PERSONAL,
        {
            "key": ("state", "which fact"),
            "value": ("state", "its value; for hashes a secret"),
            "updated_at": ("time", "when it last changed"),
        },
    ),
}

ENTRIES: Final[Mapping[str, TableEntry]] = {**TICKETS, **PEOPLE, **MODELS}
FORMS: Final = frozenset({"masked", "encrypted", "hash", "staff", "identifier", "text", "state", "number", "time", "reference"})
"""What a column's form may be. "raw" is none of them."""
