from eventmicro_schemas.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckRequest(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: str
    def __init__(self, part: _Optional[str] = ...) -> None: ...

class CheckReply(_message.Message):
    __slots__ = ("status",)
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[CheckReply.Status]
        SERVING: _ClassVar[CheckReply.Status]
        NOT_SERVING: _ClassVar[CheckReply.Status]
    STATUS_UNSPECIFIED: CheckReply.Status
    SERVING: CheckReply.Status
    NOT_SERVING: CheckReply.Status
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: CheckReply.Status
    def __init__(self, status: _Optional[_Union[CheckReply.Status, str]] = ...) -> None: ...
