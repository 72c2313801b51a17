// The Zendesk side: who looks at which ticket, signed requests to the bot, and what is put into the ticket's form.
// Knows nothing of how things are shown. The secret never comes here: Zendesk's proxy puts it in (see docs/zendesk-app.md).

const TOKEN_SECONDS = 60;
const PLAIN_FIELDS = ["status", "priority", "type"];

export class RequestError extends Error {
  constructor(kind, message, retryAfterS) {
    super(message);
    this.kind = kind; // signature | busy | conflict | missing | refused | down
    this.retryAfterS = retryAfterS;
  }
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Zendesk {
  constructor(client) {
    this.client = client;
    this.names = new Map();
  }

  // Returns false where the app's settings lack the bot's address.
  async open() {
    const [context, metadata, found] = await Promise.all([
      this.client.context(), this.client.metadata(), this.client.get(["currentUser", "ticket.id"]),
    ]);
    this.subdomain = context.account.subdomain;
    this.address = String((metadata.settings || {}).api_url || "").replace(/\/+$/, "");
    this.user = found.currentUser;
    this.ticketId = found["ticket.id"];
    return Boolean(this.address);
  }

  async getScheme() {
    try {
      return (await this.client.get("colorScheme")).colorScheme;
    } catch {
      return "light"; // an older workspace does not know the question
    }
  }

  async ask(path, body = {}) {
    try {
      return await this.client.request({
        url: `${this.address}/plugins/zendesk/app${path}`,
        type: "POST",
        contentType: "application/json",
        dataType: "json",
        data: JSON.stringify(body),
        headers: { Authorization: "Bearer {{jwt.token}}" },
        secure: true,
        cors: false,
        autoRetry: false, // a token is good for one request
        jwt: {
          algorithm: "HS256",
          secret_key: "{{setting.shared_secret}}",
          expiry: TOKEN_SECONDS,
          claims: { iss: this.subdomain, sub: String(this.user.id), ticket: String(this.ticketId), jti: newKey() },
        },
      });
    } catch (failure) {
      throw readFailure(failure);
    }
  }

  async getName(agentId) {
    if (!this.names.has(agentId)) {
      try {
        const answer = await this.client.request({ url: `/api/v2/users/${agentId}.json`, type: "GET", dataType: "json" });
        this.names.set(agentId, answer.user.name);
      } catch {
        return ""; // the name is a comfort: without it the app says "another support agent"
      }
    }
    return this.names.get(agentId);
  }

  // Fills in fields of the form; returns what stood there before, so that it can be put back. Throws where a field refuses.
  async write(writes) {
    const before = [];
    for (const write of writes) {
      const value = (await this.client.get(write.path))[write.path];
      const isEmpty = value === null || value === undefined || value === "" || value === "-";
      if ((write.only_if_empty && !isEmpty) || value === write.value) continue;
      await this.client.set(write.path, write.value);
      before.push({ path: write.path, value: value === undefined ? null : value, written: write.value });
    }
    return before;
  }

  // Puts back what stood there before, except where somebody has changed it since.
  async restore(before) {
    for (const { path, value, written } of before) {
      if ((await this.client.get(path))[path] === written) await this.client.set(path, value);
    }
  }

  // Applies a macro as Zendesk itself would: its own API says what changes, and how its text reads for this ticket.
  async applyMacro({ macro_id: macroId, text }) {
    if (!macroId) return this.client.invoke("comment.appendText", text);
    const get = (url) => this.client.request({ url, type: "GET", dataType: "json" });
    const [changes, after] = await Promise.all([
      get(`/api/v2/macros/${macroId}/apply.json`), get(`/api/v2/tickets/${this.ticketId}/macros/${macroId}/apply.json`),
    ]);
    const changed = changes.result.ticket;
    const result = after.result.ticket;
    for (const name of PLAIN_FIELDS) {
      if (name in changed) await this.client.set(`ticket.${name}`, name in result ? result[name] : changed[name]);
    }
    for (const field of [changed.fields, changed.custom_fields].flat().filter((one) => one && one.id)) {
      await this.client.set(`ticket.customField:custom_field_${field.id}`, field.value);
    }
    await this.applyTags(changed, result);
    return this.applyComment(result.comment || changed.comment);
  }

  async applyTags(changed, result) {
    if (!("tags" in changed)) return;
    const tags = [result.tags || changed.tags].flat().join(" ").split(/\s+/).filter(Boolean);
    const present = [(await this.client.get("ticket.tags"))["ticket.tags"] || []].flat();
    const missing = tags.filter((tag) => !present.includes(tag));
    if (missing.length) await this.client.invoke("ticket.tags.add", missing);
  }

  async applyComment(comment) {
    if (!comment) return;
    if (typeof comment.public === "boolean") await this.client.set("comment.type", comment.public ? "publicReply" : "internalNote");
    if (comment.html_body) await this.client.invoke("comment.appendHtml", comment.html_body);
    else if (comment.body) await this.client.invoke("comment.appendText", comment.body);
  }

  resize(height) {
    this.client.invoke("resize", { width: "100%", height: `${height}px` }).catch(() => undefined); // the frame scrolls instead
  }
}

function readFailure(failure) {
  let body = failure && failure.responseJSON;
  if (!body && failure && failure.responseText) {
    try {
      body = JSON.parse(failure.responseText);
    } catch {
      body = null; // not our bot's words: something between us answered
    }
  }
  const isOurs = body && typeof body.error === "string" && typeof body.message === "string";
  return isOurs ? new RequestError(body.error, body.message, body.retry_after_s) : new RequestError("down", "");
}
