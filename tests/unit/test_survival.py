"""Types whose values do not come back as they were sent are refused when they are declared; others are taken."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import to_json
from typing_extensions import TypedDict

from eventmicro import Client, Publish, Service, Topic
from eventmicro.codecs import Codecs
from eventmicro.codecs.survival import check_survives
from eventmicro.errors import UsageError


class Login(BaseModel):
    password: SecretStr


class Key(BaseModel):
    key: SecretBytes | None = None


class Pin(BaseModel):
    pin: Secret[int]


class Filter(BaseModel):
    where: Json[list[int]]


class Square(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Hidden(BaseModel):
    secret: str = Field(exclude=True)


class Renamed(BaseModel):
    total: int = Field(serialization_alias="sum", validation_alias="amount")


class WrittenOnly(BaseModel):
    total: int = Field(default=0, serialization_alias="sum")


class Deep(BaseModel):
    city: str = Field(validation_alias=AliasPath("address", "city"))


class OneForm(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    data: bytes


class NoNumber(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="null")
    rate: float


class StrictTexts(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings", strict=True)
    rate: float


class Joined(BaseModel):
    tags: list[str]

    @field_serializer("tags")
    def join(self, tags: list[str]) -> str:
        return ",".join(tags)


class AsText(BaseModel):
    x: int

    @model_serializer
    def text(self) -> str:
        return str(self.x)


class Grid(BaseModel):
    cells: dict[tuple[int, int], str]


@dataclass
class Seeded:
    seed: InitVar[int]
    value: int = field(default=0)

    def __post_init__(self, seed: int) -> None: ...


class Account(TypedDict):
    login: Login


class Tree(BaseModel):
    children: list[Tree] = []
    filter: Filter | None = None


class Box(RootModel[list[Login]]): ...


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]


@dataclass
class Holder:
    login: Login


class Bank(BaseModel):
    kind: Literal["bank"] = "bank"
    login: Login


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"


LOST: list[tuple[Any, str]] = [
    (Login, r"Login\.password is a secret, .*PlainSerializer"),
    (Key, r"Key\.key is a secret"),
    (Pin, r"Pin\.pin is a secret"),
    (SecretStr, r"SecretStr is a secret"),
    (Filter, r"Filter\.where is Json.* without Json"),
    (Square, r"Square\.area is written.*extra='ignore'"),
    (Hidden, r"Hidden\.secret is needed and never written: give it a default"),
    (Renamed, r"Renamed\.total is written as 'sum' and read as 'amount'.*AliasChoices"),
    (WrittenOnly, r"WrittenOnly\.total is written as 'sum' and read as 'total'"),
    (Deep, r"Deep\.city is written as 'city' and read as 'address'"),
    (OneForm, r"OneForm\.data is written in one form of bytes .*ser_json_bytes='base64'"),
    (NoNumber, r"NoNumber\.rate may be NaN.*'null'"),
    (StrictTexts, r"StrictTexts\.rate may be NaN.*'strings'"),
    (Joined, r"Joined\.tags is written by join, as a single value, and read from an array"),
    (AsText, r"AsText is written by text, as a single value, and read from an object"),
    (Grid, r"Grid\.cells has tuples for keys"),
    (Seeded, r"Seeded\.seed is needed and never written"),
    (Account, r"Login\.password"),
    (Tree, r"Filter\.where"),
    (Box, r"Login\.password"),
    (Page[Login], r"Login\.password"),
    (Holder, r"Login\.password"),
    (list[Login], r"Login\.password"),
    (dict[str, list[Filter]], r"Filter\.where"),
    (Login | None, r"Login\.password"),
    (Login | Cash, r"Login\.password"),
    (Annotated[Bank | Cash, Field(discriminator="kind")], r"Login\.password"),
    (tuple[int, Square], r"Square\.area"),
]


@pytest.mark.parametrize(("kind", "why"), LOST, ids=[str(kind) for kind, _ in LOST])
def test_a_type_whose_values_do_not_come_back_is_refused_with_the_mend(kind: Any, why: str) -> None:
    with pytest.raises(UsageError, match=rf"does not come back as it is sent: .*{why}"):
        check_survives(kind)


class Revealed(BaseModel):
    password: SecretStr
    other: Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value())]

    @field_serializer("password")
    def reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class JsonAgain(BaseModel):
    where: Annotated[Json[list[int]], PlainSerializer(lambda value: to_json(value).decode())]


class JsonOrList(BaseModel):
    where: Json[list[int]] | list[int]


class JsonTaken(BaseModel):
    where: Annotated[Json[list[int]], BeforeValidator(lambda value: value if isinstance(value, str) else str(value))]


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=lambda name: name.upper(), populate_by_name=True)
    total: int


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    total: int = Field(validation_alias="amount")


class Both(BaseModel):
    total: int = Field(serialization_alias="sum", validation_alias=AliasChoices("amount", "sum"))


class FromNames(BaseModel):
    first: str = Field(validation_alias=AliasPath("names", 0))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def names(self) -> list[str]:
        return [self.first]


class Rectangle(BaseModel):
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Dropping(Square):
    @model_validator(mode="before")
    @classmethod
    def drop(cls, value: Any) -> Any:
        return {"side": value["side"]} if isinstance(value, dict) else value


class Cached(BaseModel):
    device: str = Field(default="", exclude=True)
    parts: list[int] = Field(default_factory=list, exclude=True)


class SameForm(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_timedelta="float")
    data: bytes
    time: datetime
    took: timedelta


class Finite(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="null")
    rate: float | None
    share: Annotated[float, Field(allow_inf_nan=False)]


class Split(Joined):
    @field_validator("tags", mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


class Parsed(AsText):
    @model_validator(mode="before")
    @classmethod
    def parse(cls, value: Any) -> Any:
        return {"x": int(value)} if isinstance(value, str) else value


class Days(BaseModel):
    day: datetime

    @field_serializer("day")
    def write(self, day: datetime) -> str:
        return day.isoformat()


class Loop(BaseModel):
    next: Loop | None = None
    names: dict[str, Loop] = {}


@dataclass
class Stamped:
    value: int
    stamp: int = field(default=0, init=False)


class Options(TypedDict, total=False):
    name: str


KEPT: list[tuple[Any, Any]] = [
    (Revealed, Revealed(password=SecretStr("a"), other=SecretStr("b"))),
    (JsonAgain, JsonAgain(where="[1, 2]")),
    (JsonOrList, JsonOrList(where="[1, 2]")),
    (JsonTaken, JsonTaken(where="[1, 2]")),
    (Camel, Camel(total=1)),
    (ByName, ByName(total=1)),
    (Both, Both(sum=1)),
    (FromNames, FromNames(names=["Ada"])),
    (Rectangle, Rectangle(side=2)),
    (Dropping, Dropping(side=2)),
    (Cached, Cached()),
    (SameForm, SameForm(data="//4=", time=datetime(2026, 1, 1), took=timedelta(1))),
    (Finite, Finite(rate=None, share=1)),
    (Split, Split(tags=["a", "b"])),
    (Parsed, Parsed(x=1)),
    (Days, Days(day=datetime(2026, 1, 1))),
    (Loop, Loop(names={"a": Loop()})),
    (Stamped, Stamped(1)),
    (Options, {"name": "a"}),
    (Page[Cash], Page[Cash](items=[Cash()])),
    (list[Camel | Rectangle], [Camel(total=1), Rectangle(side=1)]),
    (int | None, 1),
    (dict[int, str], {1: "a"}),
    (Any, 1),
]


@pytest.mark.parametrize(("kind", "value"), KEPT, ids=[str(kind) for kind, _ in KEPT])
def test_a_type_whose_values_come_back_is_taken(kind: Any, value: Any) -> None:
    check_survives(kind)
    body = Codecs().body(kind)
    assert body.decode(body.encode(value)) == value


def test_topics_and_what_endpoints_take_and_give_are_refused_by_the_handler_s_name() -> None:
    service = Service("shop")

    async def handle(request: Any) -> Any: ...

    handle.__annotations__ |= {"request": Login, "return": None}
    with pytest.raises(UsageError, match=r"^endpoint handle: Login does not come back .*Login\.password"):
        service.rpc(handle)
    with pytest.raises(UsageError, match=r"^subscriber handle: Login does not come back"):
        service.subscribe(Topic("shop.logins", Login))(handle)
    handle.__annotations__ |= {"request": Cash, "return": Annotated[Login, Publish(Topic("shop.logins", Login))]}
    with pytest.raises(UsageError, match=r"^subscriber handle: Login does not come back"):
        service.subscribe(Topic("shop.cash", Cash))(handle)
    handle.__annotations__ |= {"request": Cash, "return": list[Filter]}
    with pytest.raises(UsageError, match=r"^endpoint handle: list\[Filter\] does not come back .*Filter\.where"):
        service.rpc(handle)


def test_what_others_write_on_a_subject_is_only_read_and_taken() -> None:
    service = Service("shop")

    async def audit(event: Filter) -> None: ...

    service.subscribe("legacy.filters")(audit)
    assert service.subscribers["audit"].event is Filter
    assert Codecs().body(Filter).decode(b'{"where": "[1]"}').where == [1]


async def test_a_topic_of_such_a_type_is_not_published_to() -> None:
    async with Client("memory://") as client:
        with pytest.raises(UsageError, match=r"Topic\('shop.logins', Login\): Login does not come back"):
            await client.publish(Topic("shop.logins", Login), Login(password=SecretStr("hunter2")))


def test_in_other_formats_what_json_has_no_form_for_is_as_it_is() -> None:
    check_survives(OneForm, in_json=False)
    check_survives(Grid, in_json=False)
    with pytest.raises(UsageError, match=r"Login\.password"):
        check_survives(Login, in_json=False)
