"""What aiokafka raises, in eventmicro's words."""

from __future__ import annotations

import re
import ssl

from aiokafka import errors  # type: ignore[import-untyped]

from eventmicro.errors import Disconnected, MessageTooLarge, NotStored, TransportError, Unconfirmed

KafkaError = errors.KafkaError


class NoToken(errors.SaslAuthenticationFailed):  # type: ignore[misc]
    """There is no token to log in with; it says why."""


class NoTicket(errors.SaslAuthenticationFailed):  # type: ignore[misc]
    """Kerberos gives no ticket to log in with; it says why."""


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]
    """The broker does not take a record as it is."""

    errno = 87
    message = "INVALID_RECORD"


class FencedInstanceIdError(errors.BrokerResponseError):  # type: ignore[misc]
    """Another member has come under the same `group.instance.id`."""

    errno = 82
    message = "FENCED_INSTANCE_ID"


class GroupMaxSizeReachedError(errors.BrokerResponseError):  # type: ignore[misc]
    """The group has as many members as its broker allows."""

    errno = 81
    message = "GROUP_MAX_SIZE_REACHED"


class UnstableOffsetCommitError(errors.BrokerResponseError):  # type: ignore[misc]
    """What is committed depends on a transaction that has not ended."""

    errno = 88
    message = "UNSTABLE_OFFSET_COMMIT"
    retriable = True


class StaleMemberEpochError(errors.BrokerResponseError):  # type: ignore[misc]
    """The group is at work by the newer protocol, and takes no commit of who is no member."""

    errno = 113
    message = "STALE_MEMBER_EPOCH"


# What Kafka may answer and aiokafka knows no name for, which would all be an UnknownError.
for _error in (
    InvalidRecordError,
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    UnstableOffsetCommitError,
    StaleMemberEpochError,
):
    errors.kafka_errors.setdefault(_error.errno, _error)

INSTALL_CODECS = "cramjam is missing here, which is a part of eventmicro[kafka]: pip install cramjam, and start again"

# The partitions that a commit was for are others' by now, or about to be.
NOT_A_MEMBER = (
    errors.IllegalGenerationError,
    errors.RebalanceInProgressError,
    errors.UnknownMemberIdError,
    StaleMemberEpochError,
)

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
# What a login means that is refused, where it is not one by password.
_REFUSED = {
    "OAUTHBEARER": "it does not take the token",
    "GSSAPI": "it does not take the ticket: its keytab is to have the key that the KDC has now for its principal; "
    "`kvno SERVICE/HOST` and, there, `klist -k KEYTAB` show the numbers of both keys",
}
_FEWER = "fewer replicas are in sync than the topic's min.insync.replicas asks for"
_MORE = (
    "start the brokers that are away, or let it ask for fewer by kafka-configs.sh --alter --entity-type topics "
    "--entity-name TOPIC --add-config min.insync.replicas=1, and what a broker has alone is lost with it"
)
_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (errors.TopicAuthorizationFailedError, "the user may not do this with this topic"),
    (
        errors.NotEnoughReplicasError,
        f"{_FEWER}, and the broker stores nothing: {_MORE}",
    ),
    (
        errors.NotEnoughReplicasAfterAppendError,
        f"{_FEWER}: {_MORE}",
    ),
    (
        InvalidRecordError,
        "the broker takes no such record: a topic with cleanup.policy=compact takes none without a key, which "
        "Topic(..., key=...) or publish(..., key=...) gives",
    ),
    (FencedInstanceIdError, "another member has the same `instance`: give each process one of its own"),
    (GroupMaxSizeReachedError, "the group has as many members as group.max.size allows"),
    (errors.ClusterAuthorizationFailedError, "the user may not do this in the cluster"),
    (errors.GroupAuthorizationFailedError, "the user may not be a member of this group"),
    (errors.InvalidTopicError, "no name that a topic may have"),
    (errors.PolicyViolationError, "the cluster's policy forbids it"),
    (errors.UnknownTopicOrPartitionError, "no such topic"),
    (errors.InvalidTimestampError, "the topic does not take this time stamp"),
    (errors.TransactionalIdAuthorizationFailed, "the user may make no transactions under this transactional id"),
    (errors.InvalidTransactionTimeout, "the broker allows no such transaction_timeout: see transaction.max.timeout.ms"),
    (errors.InvalidSessionTimeoutError, "the broker allows no such session_timeout: see group.min.session.timeout.ms"),
    (errors.InvalidReplicationFactorError, "the cluster has not as many brokers as `replication` says"),
    (errors.InvalidPartitionsError, "the cluster allows no such number of `partitions`"),
    (
        errors.InconsistentGroupProtocolError,
        "the group has members of other software that share partitions in another way, or is no group of consumers: "
        "let them have the assignor `range` or `roundrobin`, or use another queue",
    ),
)


def producer_is_dead(error: BaseException) -> bool:
    """Whether the message was not stored only because the producer needs to be made anew."""
    return isinstance(error, _PRODUCER_DEAD)


def is_too_large(error: BaseException) -> bool:
    """Whether a batch is larger than the topic or its broker allows, perhaps for the number of its messages."""
    return isinstance(error, _TOO_LARGE)


def may_be_for_others(error: BaseException, *, keyed: bool) -> bool:
    """Whether a message is refused, perhaps, for the sake of others in its batch: the broker takes all of one or none.

    Args:
        keyed: whether it has a key, without which a topic that is compacted takes none.
    """
    return is_too_large(error) or (keyed and isinstance(error, InvalidRecordError))


def is_refusal(error: BaseException) -> bool:
    """Whether the broker has said no, and would again."""
    known = isinstance(error, errors.BrokerResponseError) and not isinstance(error, errors.UnknownError)
    return known and not error.retriable  # type: ignore[attr-defined]


def not_published(error: BaseException, about: str, lacking: str = "") -> TransportError:
    """The eventmicro error for one that a publish met.

    Args:
        about: names the message.
        lacking: which right is missing, where one is.
    """
    if isinstance(error, errors.TopicAuthorizationFailedError) and lacking:
        return NotStored(f"{about}: {lacking}")
    if isinstance(error, _TOO_LARGE):
        return MessageTooLarge(f"{about}: over the limit of the topic or its broker, max.message.bytes")
    if is_refusal(error):
        return NotStored(f"{about}: {plain(error)}")
    return Unconfirmed(f"{about}: {plain(error)}")


def late(about: str, timeout: float, sent: bool, met: BaseException | None = None) -> TransportError:
    """The error for a message that was not confirmed in time.

    Args:
        sent: whether the broker may have it.
        met: what the broker has answered to the last try.
    """
    if sent:
        why = "" if met is None else f": {plain(met)}"
        return Unconfirmed(f"{about}: handed over, and not confirmed within {timeout:g} s{why}; it may be stored yet")
    why = "the cluster is away or takes nothing" if met is None else plain(met)
    return Disconnected(f"{about}: not sent within {timeout:g} s: {why}")


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


def why_not_connected(error: BaseException | None, where: str, tls: bool, timeout: float, sasl: str = "") -> str:
    """What to tell a person who could not connect."""
    start = f"cannot connect to Kafka at {where}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{start}: its certificate is not to be trusted: {error.verify_message}; see tls_ca"
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return f"{start}: it does not take this way to log in; see sasl"
    if isinstance(error, NoToken | NoTicket):
        return f"{start}: {error.args[0]}"
    if isinstance(error, _LOGIN):
        return f"{start}: {_REFUSED.get(sasl, 'wrong user or password')}"
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
