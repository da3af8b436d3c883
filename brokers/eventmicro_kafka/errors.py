"""What aiokafka raises, in eventmicro's words."""

from __future__ import annotations

import re
import ssl

from aiokafka import errors  # type: ignore[import-untyped]

from eventmicro.errors import Disconnected, MessageTooLarge, NotStored, TransportError, Unconfirmed

KafkaError = errors.KafkaError

INSTALL_CODECS = "cramjam is missing here, which is a part of eventmicro[kafka]: pip install cramjam, and start again"

# The partitions that a commit was for are others' by now, or about to be.
NOT_A_MEMBER = (errors.IllegalGenerationError, errors.RebalanceInProgressError, errors.UnknownMemberIdError)

# The message was not taken, because the producer is of no use any more: a new one may send it.
_PRODUCER_DEAD = (
    errors.OutOfOrderSequenceNumber,
    errors.ProducerClosed,
    errors.ProducerFenced,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.UnknownProducerId,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_LOGIN = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.IllegalSaslStateError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
)
_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (errors.TopicAuthorizationFailedError, "the user may not write to this topic"),
    (errors.ClusterAuthorizationFailedError, "the user may not do this in the cluster"),
    (errors.GroupAuthorizationFailedError, "the user may not be a member of this group"),
    (errors.InvalidTopicError, "no name that a topic may have"),
    (errors.PolicyViolationError, "the cluster's policy forbids it"),
    (errors.UnknownTopicOrPartitionError, "no such topic"),
    (errors.InvalidTimestampError, "the topic does not take this time stamp"),
    (errors.InvalidSessionTimeoutError, "the broker allows no such session_timeout: see group.min.session.timeout.ms"),
    (errors.InvalidReplicationFactorError, "the cluster has not as many brokers as `replication` says"),
    (errors.InvalidPartitionsError, "the cluster allows no such number of `partitions`"),
    (errors.InconsistentGroupProtocolError, "the group has members that share partitions in another way"),
)


def producer_is_dead(error: BaseException) -> bool:
    """Whether the message was not stored only because the producer needs to be made anew."""
    return isinstance(error, _PRODUCER_DEAD)


def is_refusal(error: BaseException) -> bool:
    """Whether the broker has said no, and would again."""
    known = isinstance(error, errors.BrokerResponseError) and not isinstance(error, errors.UnknownError)
    return known and not error.retriable  # type: ignore[attr-defined]


def not_published(error: BaseException, about: str) -> TransportError:
    """The eventmicro error for one that a publish met; `about` names the message."""
    if isinstance(error, _TOO_LARGE):
        return MessageTooLarge(f"{about}: over the limit of the topic or its broker, max.message.bytes")
    if is_refusal(error):
        return NotStored(f"{about}: {plain(error)}")
    return Unconfirmed(f"{about}: {plain(error)}")


def late(about: str, timeout: float, sent: bool) -> TransportError:
    """The error for a message that was not confirmed in time; `sent`: whether the broker may have it."""
    if sent:
        return Unconfirmed(f"{about}: handed over, and not confirmed within {timeout:g} s; it may be stored yet")
    return Disconnected(f"{about}: not sent within {timeout:g} s; the cluster is away or takes nothing")


def plain(error: BaseException) -> str:
    """What an error of the driver or the system says, in a line; what it means where that is known."""
    for kind, hint in _HINTS:
        if isinstance(error, kind):
            return f"{hint} ({type(error).__name__})"
    text = re.sub(r"^(\[Error -?\d+\] )?\w+: ", "", str(error)) or type(error).__name__
    return text.splitlines()[0]


def why_unreadable(error: BaseException) -> str:
    """What to tell a person whose events cannot be read, and how to mend it."""
    codec = re.search(r"Libraries for (\w+) compression", str(error))
    if codec is not None:
        return f"it is compressed with {codec[1]}: {INSTALL_CODECS}"
    return (
        f"{type(error).__name__}: {plain(error)}; where the broker cannot mend it, delete the records up to there and "
        "what is broken: kafka-delete-records.sh --bootstrap-server … --offset-json-file …"
    )


def is_final(error: BaseException) -> bool:
    """Whether trying again to connect is of no use: credentials or certificates are wrong."""
    return isinstance(error, (ssl.SSLCertVerificationError, *_LOGIN))


def why_not_connected(error: BaseException | None, where: str, tls: bool, timeout: float) -> str:
    """What to tell a person who could not connect."""
    start = f"cannot connect to Kafka at {where}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{start}: its certificate is not to be trusted: {error.verify_message}; see tls_ca"
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return f"{start}: it does not take this way to log in; see sasl"
    if isinstance(error, _LOGIN):
        return f"{start}: wrong user or password"
    if isinstance(error, ssl.SSLError):
        return f"{start}: no TLS is spoken there ({error.reason}); write kafka:// without tls if that is right"
    if isinstance(error, ConnectionRefusedError):
        return f"{start} within {timeout:g} s: nobody listens; is it running?"
    if error is None or isinstance(error, TimeoutError):
        return f"{start}: no answer within {timeout:g} s"
    if isinstance(error, KafkaError | EOFError | ConnectionError):
        hint = "; does it speak TLS there?" if tls else "; does it want TLS (kafkas://) or a login?"
        return f"{start} within {timeout:g} s: it closes the connection ({plain(error)}){hint}"
    return f"{start} within {timeout:g} s: {plain(error)}"
