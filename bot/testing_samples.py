"""Invented sample data behind `bot.testing.FakeBot`: a label set, tickets, adapters and a timeline.

Knows nothing of behaviour. Every person and company here is made up; addresses are under example.com.
"""

from bot.plugin_api import Label, LabelSet, Turn

LABELS = LabelSet(
    name="IT helpdesk",
    version="5f0c2a9b7d11",
    labels=(
        Label(
            name="Account access",
            description="Locked accounts, password resets, sign-in codes and two-factor devices",
            macro="Thank you for writing in. I have sent a reset link to the address on file; it works for 30 minutes. "
            "If the sign-in code does not arrive, reply here and we will set the second factor up anew.",
            queue="Identity",
            priority="high",
        ),
        Label(
            name="Network and VPN",
            description="Wi-Fi, VPN tunnel, proxy, slow or dropped connection",
            macro="Please restart the VPN client, choose the gateway nearest to you and tell us the error number it shows.",
            queue="Network",
            priority="normal",
        ),
        Label(
            name="Hardware", description="Laptop, monitor, dock, keyboard, printer, battery", queue="Workplace", priority="normal"
        ),
        Label(
            name="Software request", description="Install, licence or update of an application", queue="Workplace", priority="low"
        ),
        Label(
            name="Email and calendar",
            description="Mailbox, invitation, shared calendar, delivery",
            queue="Mail",
            priority="normal",
        ),
        Label(
            name="Billing",
            description="Invoice, refund, charge, payment method, subscription",
            macro="I have checked the invoice you named. The second charge is a reservation that your bank releases within five days.",
            queue="Finance",
            priority="normal",
        ),
        Label(
            name="Data request", description="Export, report, deletion or correction of stored data", queue="Data", priority="low"
        ),
        Label(
            name="Security incident",
            description="Phishing, suspicious message, lost device, leaked credential, malware",
            macro="Thank you for telling us at once. Please do not click anything further; the security desk takes over now.",
            queue="Security",
            priority="urgent",
            escalate=True,
        ),
        Label(name="Other", description="Nothing of the above", queue="First line", priority="low"),
    ),
)

# subject, turns, kind of decision ("" = open, "withheld" = could not be masked), chosen label, is_blind
TICKETS: tuple[tuple[str, tuple[Turn, ...], str, str, bool], ...] = (
    (
        "Invoice shows the same charge twice",
        (Turn("customer", "Invoice 20417 lists the yearly subscription twice. Could the second charge be refunded?"),),
        "accept",
        "Billing",
        False,
    ),
    (
        "Docking station does not wake the monitor",
        (
            Turn(
                "customer", "Since Monday my monitor stays black after I put the laptop into the dock. The battery charges fine."
            ),
        ),
        "accept",
        "Hardware",
        False,
    ),
    (
        "Strange message asking for my password",
        (
            Turn(
                "customer",
                "I got a message that looks like it comes from our bank and asks me to sign in. I clicked before I noticed.",
            ),
            Turn("agent", "Did you type a password on that page?"),
            Turn("customer", "Yes, but I closed it right away. It feels like phishing."),
        ),
        "override",
        "Security incident",
        False,
    ),
    (
        "Sign-in code never arrives",
        (
            Turn(
                "customer",
                "The sign-in code never reaches my phone and after three tries my account is locked. Can you reset it?",
            ),
        ),
        "accept",
        "Account access",
        False,
    ),
    (
        "Please export last year's figures",
        (Turn("customer", "We need an export of all tickets of last year as a report for the audit."),),
        "accept",
        "Data request",
        False,
    ),
    (
        "Question about a second site",
        (Turn("customer", "We open a second site in spring. Whom do we talk to about everything it needs?"),),
        "handoff",
        "",
        False,
    ),
    (
        "VPN drops every ten minutes",
        (
            Turn(
                "customer", "The VPN connection drops every ten minutes when I work from home. Wi-Fi itself is stable, error 809."
            ),
        ),
        "accept",
        "Network and VPN",
        False,
    ),
    ("", (Turn("customer", ""),), "withheld", "", False),
    (
        "Licence for the diagram editor",
        (
            Turn(
                "customer", "I need a licence for the diagram application, version 12 or newer, before the workshop on Thursday."
            ),
        ),
        "",
        "",
        False,
    ),
    (
        "Printer on the third floor",
        (Turn("customer", "The printer on the third floor prints blank pages. Keyboard and display of the device work."),),
        "",
        "",
        True,
    ),
    (
        "It is all rather slow today",
        (Turn("customer", "Everything is rather slow today, above all the report page. Is something going on?"),),
        "",
        "",
        False,
    ),
    (
        "Charged again after cancelling",
        (
            Turn("customer", "I cancelled the subscription in January and see another charge on my payment card."),
            Turn("agent", "Thank you. Could you send me the number of the invoice?"),
            Turn("customer", "It is 20588. A refund to the same card would be best."),
        ),
        "",
        "",
        False,
    ),
    (
        "Wi-Fi in the meeting room",
        (
            Turn(
                "customer", "The Wi-Fi in the large meeting room loses the connection as soon as more than ten people are in it."
            ),
        ),
        "",
        "",
        False,
    ),
    (
        "Locked out after changing my phone",
        (
            Turn(
                "customer",
                "Hello, I changed my phone on Friday and now I cannot sign in any more.\n\n"
                "The sign-in code goes to the old device, which I have already returned. After three tries my account is locked. "
                "My user name is alex@example.com. I have a presentation at two o'clock, so a quick password reset would help a lot.",
            ),
            Turn("agent", "Hello Alex, I am sorry to hear that. Do you still have one of the printed recovery codes?"),
            Turn(
                "customer",
                "I am afraid not, they were in the drawer of the old office. Can you reset the second factor from your side?",
            ),
        ),
        "",
        "",
        False,
    ),
)

# digest seed, task, days since creation, status, reason, metrics
ADAPTERS: tuple[tuple[str, str, float, str, str, dict[str, float]], ...] = (
    (
        "class-one",
        "classification",
        41,
        "retired",
        "+9.1 points over the base model on 320 test tickets",
        {"accuracy": 0.781, "macro_f1": 0.744, "ece": 0.041},
    ),
    (
        "class-two",
        "classification",
        20,
        "retired",
        "+4.2 points over the adapter before it",
        {"accuracy": 0.823, "macro_f1": 0.796, "ece": 0.034},
    ),
    (
        "class-three",
        "classification",
        9,
        "rejected",
        "recall of Security incident fell from 96 % to 88 %",
        {"accuracy": 0.829, "macro_f1": 0.781, "ece": 0.052},
    ),
    (
        "class-four",
        "classification",
        4,
        "active",
        "+3.5 points, no label lost more than 1 point",
        {"accuracy": 0.858, "macro_f1": 0.841, "ece": 0.027},
    ),
    (
        "class-five",
        "classification",
        0.4,
        "candidate",
        "waits for an approver",
        {"accuracy": 0.866, "macro_f1": 0.848, "ece": 0.025},
    ),
    (
        "summary-one",
        "summary",
        12,
        "active",
        "chooses the lines people kept in 71 % of edits",
        {"rouge_l": 0.412, "kept_lines": 0.71},
    ),
)

TIMELINE: tuple[float, ...] = (0.58, 0.61, 0.60, 0.69, 0.72, 0.71, 0.74, 0.73, 0.80, 0.83, 0.82, 0.86)
