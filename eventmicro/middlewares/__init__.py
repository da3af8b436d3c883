"""Ready-made middleware, one a file, each usable alone: logging, fallback, cache, de-duplication, limits, breaker,
timeout, checked replies. `in_order` puts them into the order in which they work together; docs/resilience.md says why.
"""

from eventmicro.middlewares.breaker import CircuitBreaker
from eventmicro.middlewares.caching import ReplyCache
from eventmicro.middlewares.circuit import Circuit, State
from eventmicro.middlewares.concurrency import ConcurrencyLimit
from eventmicro.middlewares.deduplication import Deduplicate
from eventmicro.middlewares.fallback import Fallback
from eventmicro.middlewares.logs import LogMessages
from eventmicro.middlewares.ordering import in_order, only
from eventmicro.middlewares.rates import RateLimit
from eventmicro.middlewares.replies import ValidateReplies
from eventmicro.middlewares.timeouts import Timeout

__all__ = [
    "Circuit",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "Deduplicate",
    "Fallback",
    "LogMessages",
    "RateLimit",
    "ReplyCache",
    "State",
    "Timeout",
    "ValidateReplies",
    "in_order",
    "only",
]
