"""What every helpdesk plugin shares: events in, suggestions out, and labels read from what people do to the ticket.

A library, not a plugin: it has no entry point and knows no helpdesk by name. A plugin brings a `HelpdeskClient` and its settings.
"""
