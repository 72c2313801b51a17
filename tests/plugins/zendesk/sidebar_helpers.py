"""The sidebar app's side of a request, as Zendesk's proxy sends it: a token signed with the shared secret."""

import itertools

from plugins.zendesk.sidebar_token import sign_token

APP_SECRET = "a-shared-secret-of-the-sidebar-app-0123456789"
ISSUER = "peer"
OTHER_AGENT = "9777"
_numbers = itertools.count(1)


def build_claims(now, ticket_id, *, agent="9002", **changes):
    claims = {
        "iss": ISSUER,
        "sub": agent,
        "ticket": ticket_id,
        "jti": f"{next(_numbers):032x}",
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + 60,
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


class App:
    """A harness of the helpdesk suite, seen from the sidebar of one ticket."""

    def __init__(self, harness, ticket_id):
        self.harness, self.ticket_id = harness, ticket_id
        self.bot, self.double = harness.bot, harness.double
        self._keys = itertools.count(1)

    async def post(self, path, body=None, *, secret=APP_SECRET, authorization=None, agent="9002", **claims):
        if authorization is None:
            token = sign_token(build_claims(self.double.clock.now(), self.ticket_id, agent=agent, **claims), secret)
            authorization = f"Bearer {token}"
        headers = {"Authorization": authorization} if authorization else {}
        return await self.harness.http.post(f"/plugins/zendesk/app{path}", json=body or {}, headers=headers)

    async def ask(self, path, body=None, **more):
        answer = await self.post(path, body, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def click(self, path, *, status=200, agent="9002", **click):
        """A click on what is shown now."""
        if "inference_id" not in click:
            click["inference_id"] = (await self.ask("/card"))["inference_id"]
        click.setdefault("key", f"click-{next(self._keys):06}")
        answer = await self.post(path, click, agent=agent)
        assert answer.status_code == status, answer.text
        return answer.json()
