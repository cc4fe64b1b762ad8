"""Alerts by HTTP: one POST of JSON, as documented or as a well-known service wants it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import httpx
import trio

from hawatch.actions.outgoing import Happening, Outgoing, SendError
from hawatch.faults import X509_REASONS
from hawatch.text import clean, cut

ANSWER_MAX = 65536
"""Bytes of an answer that are read."""
FOR_GOOD = frozenset((400, 413, 422))
"""Answers that say that this very message is not wanted: another attempt would fail as well."""
TEXT_MAX = 3000
"""Characters of text for a chat."""
ALERT_LASTS_S = 7 * 86400
"""Alertmanager takes a failure for over after so long without its end."""
NOTICE_LASTS_S = 300
PRIORITIES = {"info": "3", "warning": "4", "critical": "5"}
COLOURS = {"info": "#2eb886", "warning": "#daa038", "critical": "#a30200"}
NTFY_BYTES = 4000
"""ntfy makes an attachment of a message of more than 4096 bytes."""
SEVERITIES = {
    "server_down": "warning", "service_down": "critical", "director_dead": "critical", "witness_dead": "critical",
    "link_down": "warning", "quorum_lost": "critical", "worker_lost": "warning", "journal_broken": "warning",
}  # fmt: skip
"""A failure's, for its end too: Alertmanager knows both by the same labels."""
WHICH = ("peer", "address", "worker")
"""Numbers of an event that tell which one of its kind it is about."""
SLACK_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
FENCE = "```"
"""Around text that Mattermost is not to take for Markdown."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where to post, and how."""

    url: str
    format: str = "json"
    """json, slack, mattermost, alertmanager or ntfy."""
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: bytes = b""
    """Signs the body, if there is one."""
    timeout_s: float = 10.0
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Post:
    """A request as it is sent."""

    body: bytes
    headers: Mapping[str, str]


def make_post(message: Outgoing, hook: Hook) -> Post:
    """Return the request of a message."""
    key = hashlib.sha256(message.key.encode()).hexdigest()[:32]
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "hawatch"}
    if hook.format == "ntfy":
        body = cut(message.body, TEXT_MAX).encode()[:NTFY_BYTES].decode("utf-8", "ignore").encode()
        headers |= {
            "Content-Type": "text/plain; charset=utf-8",
            "X-Title": _header(message.subject),
            "X-Priority": PRIORITIES[message.severity],
            "X-Tags": "white_check_mark" if _all_up(message) else "rotating_light",
        }
    else:
        body = json.dumps(FORMATS[hook.format](message), ensure_ascii=False).encode()
    if message.twice:
        headers["X-Hawatch-Possibly-Twice"] = "yes"
    if hook.secret:
        signature = hmac.new(hook.secret, body, hashlib.sha256).hexdigest()
        headers["X-Hawatch-Signature"] = f"sha256={signature}"
    return Post(body, headers | dict(hook.headers))


def _header(text: str) -> str:
    """Return text fit for a header; what is not ASCII is written as RFC 2047 wants it, which ntfy reads."""
    line = cut(clean(text), 200)
    if line.isascii():
        return line
    return f"=?UTF-8?B?{base64.b64encode(line.encode()).decode()}?="


def _all_up(message: Outgoing) -> bool:
    return bool(message.happenings) and all(each.kind == "up" for each in message.happenings)


def _as_json(message: Outgoing) -> object:
    return {
        "version": 1,
        "key": hashlib.sha256(message.key.encode()).hexdigest()[:32],
        "cluster": message.cluster,
        "node": message.node,
        "severity": message.severity,
        "subject": message.subject,
        "text": message.body,
        "test": message.test,
        "possibly_twice": message.twice,
        "more": message.more,
        "events": [asdict(each) for each in message.happenings],
    }


def _as_slack(message: Outgoing) -> object:
    text = cut(message.body, TEXT_MAX).translate(SLACK_ESCAPES)
    return {"text": message.subject.translate(SLACK_ESCAPES), "attachments": [_attachment(message, text)]}


def _as_mattermost(message: Outgoing) -> object:
    text = cut(message.body, TEXT_MAX).replace(FENCE, "...")
    attachment = _attachment(message, f"{FENCE}\n{text}\n{FENCE}")
    return {"username": "hawatch", "text": message.subject, "attachments": [attachment]}


def _attachment(message: Outgoing, text: str) -> dict[str, str]:
    colour = COLOURS["info"] if _all_up(message) else COLOURS[message.severity]
    return {"color": colour, "text": text, "fallback": message.subject}


def _as_alertmanager(message: Outgoing) -> object:
    if message.test:
        test = Happening("notice", "alert_test", _stamp(message.date_s), "info", message.node, message.body)
        return [_alert(message, test)]
    return [_alert(message, each) for each in message.happenings]


def _alert(message: Outgoing, each: Happening) -> dict[str, object]:
    name = each.failure or each.name
    # Both directors see a server fail, and either may tell the end: it is the same alert.
    shared = name in ("server_down", "service_down")
    labels = {
        "alertname": f"hawatch_{name}",
        "severity": SEVERITIES.get(name, each.severity),
        "cluster": message.cluster,
        "node": "" if shared else each.node,
        "group": each.group,
        "service": each.service,
        "server": each.server,
        **{key: str(each.numbers.get(key, "")) for key in WHICH},
    }
    began_s = each.began_s or message.date_s
    ends_s = {"up": message.date_s, "notice": message.date_s + NOTICE_LASTS_S}.get(
        each.kind, message.date_s + ALERT_LASTS_S
    )
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": each.reason, "event": each.name, "node": each.node},
        "startsAt": _stamp(min(began_s, ends_s)),
        "endsAt": _stamp(ends_s),
    }


FORMATS = {"json": _as_json, "slack": _as_slack, "mattermost": _as_mattermost, "alertmanager": _as_alertmanager}


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def send_webhook(message: Outgoing, hook: Hook) -> str:
    """Post a message and return what was answered; raise SendError if it was not taken."""
    post = make_post(message, hook)
    began = False
    try:
        with trio.fail_after(hook.timeout_s):
            async with httpx.AsyncClient(
                verify=_context(hook), timeout=hook.timeout_s, follow_redirects=False, trust_env=True
            ) as client:
                request = client.build_request("POST", hook.url, content=post.body, headers=dict(post.headers))
                began = True
                answer = await client.send(request, stream=True)
                try:
                    text = await _beginning(answer)
                finally:
                    await answer.aclose()
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
        raise SendError(f"no connection: {_words(error)}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SendError(_words(error), perhaps_taken=began) from error
    except trio.TooSlowError as error:
        raise SendError(f"no answer in {hook.timeout_s:g} s", perhaps_taken=began) from error
    except OSError as error:
        raise SendError(f"{error.filename or hook.ca_file}: {error.strerror or error}") from error
    if not answer.is_success:
        reason = cut(clean(f"HTTP {answer.status_code} {text}"))
        raise SendError(reason, for_good=answer.status_code in FOR_GOOD)
    return f"HTTP {answer.status_code}"


def _context(hook: Hook) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=hook.ca_file) if hook.ca_file else True


async def _beginning(answer: httpx.Response) -> str:
    """Return the text of a refusal if it says how long it is; of anything else the status is enough."""
    length = answer.headers.get("content-length", "")
    if answer.is_success or not length.isdecimal() or int(length) > ANSWER_MAX:
        return ""
    return (await answer.aread()).decode("utf-8", "replace")


def _words(error: Exception) -> str:
    """Return an error in words: the library leaves them to what caused it."""
    found = ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return X509_REASONS.get(cause.verify_code) or f"certificate refused: {cause.verify_message}"
        found = found or cut(clean(str(cause)))
        cause = cause.__cause__ or cause.__context__
    return found or type(error).__name__
