"""What requests hold and what answers hold, as types that OpenAPI shows."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

RawId = StrictInt | StrictStr
"""The id of a user or an item as the store has it; its position where the store has none."""


class Asked(BaseModel):
    """A request: nothing is converted, and what is unknown is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    example: ClassVar[dict[str, Any]] = {}


class Without(BaseModel):
    """Parts of what a user's score of an item is made of, to be left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    item: RawId = Field(description="The item whose explanation named the units.")
    units: Annotated[
        list[Annotated[StrictInt, Field(ge=0)]],
        Field(min_length=1, description="Their numbers, as /explain gave them."),
    ]


class Recommend(Asked):
    """The best items for some users."""

    example = {"users": ["196"], "k": 3}

    users: Annotated[list[RawId], Field(min_length=1, description="Raw ids.")]
    k: Annotated[StrictInt, Field(ge=1, description="Items per user.")] = 10
    items: list[RawId] | None = Field(None, description="Candidates; by default the catalogue.")
    exclude: list[RawId] | None = Field(None, description="Items that are not recommended to any of them.")
    exclude_seen: bool = Field(True, description="Leave out what each user has had.")
    without: Without | None = Field(
        None, description="Of one user: the list had these units of an explanation never been."
    )


class Similar(Asked):
    """The items most like some items."""

    example = {"items": ["50"], "k": 3}

    items: Annotated[list[RawId], Field(min_length=1, description="Raw ids.")]
    k: Annotated[StrictInt, Field(ge=1, description="Similar items per item.")] = 10


class Session(Asked):
    """The best next items of a session that no store holds."""

    example = {"items": ["50", "172"], "k": 3}

    items: Annotated[list[RawId], Field(min_length=1, description="Raw ids, oldest first.")]
    k: Annotated[StrictInt, Field(ge=1, description="Items.")] = 10


class Explain(Asked):
    """Why a user gets an item."""

    example = {"user": "196", "item": "88", "max_reasons": 3}

    user: RawId
    item: RawId
    max_reasons: Annotated[StrictInt, Field(ge=1, le=50)] = 5


class History(Asked):
    """What a user has had."""

    example = {"user": "196", "limit": 3}

    user: RawId
    limit: Annotated[StrictInt, Field(ge=1, le=1000)] = 50


class Reload(Asked):
    """Read the model and the store anew."""


class Health(BaseModel):
    """What is served."""

    status: str
    model: str
    num_users: int
    num_items: int
    generation: int = Field(description="1, and one more for each reload.")
    explains: bool
    sessions: bool
    named: bool


class Node(BaseModel):
    """A user or an item."""

    id: RawId
    name: str | None


class Users(BaseModel):
    """Users that a search found."""

    users: list[Node]
    total: int


class Items(BaseModel):
    """Items that a search found."""

    items: list[Node]
    total: int


class Past(BaseModel):
    """A user's history, the latest first where interactions have times."""

    user: RawId
    items: list[Node]
    total: int


class Scored(Node):
    """An item with its score."""

    score: float


class UserList(BaseModel):
    """Recommendations of one user."""

    user: RawId
    known: bool = Field(description="Whether the model knows the user; if not, the list is by popularity.")
    items: list[Scored]


class Recommended(BaseModel):
    """Recommendations of all users asked for, in their order."""

    model: str
    generation: int
    lists: list[UserList]


class ItemList(BaseModel):
    """The items most like an item."""

    item: RawId
    items: list[Scored]


class Alike(BaseModel):
    """Similar items of all items asked for, in their order."""

    lists: list[ItemList]


class Next(BaseModel):
    """The best next items."""

    items: list[Scored]


class Because(BaseModel):
    """A reason that was tested by leaving it out."""

    units: list[int]
    text: str
    effect: float = Field(description="What the score loses without it.")
    rank_change: int | None


class GraphNode(BaseModel):
    """A node of the small graph."""

    id: str
    label: str
    kind: str = Field(description="user, item, entity, preference, memory or features.")


class GraphEdge(BaseModel):
    """An edge of the small graph."""

    source: str
    target: str
    label: str
    effect: float | None
    units: list[int]


class Graph(BaseModel):
    """The small graph of an explanation."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]


class Explained(BaseModel):
    """An explanation."""

    user: RawId
    item: RawId
    item_name: str | None
    generation: int
    score: float
    rank: int | None
    text: str
    reasons: list[Because]
    graph: Graph


class Reloaded(BaseModel):
    """What is served after a reload."""

    generation: int


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One sentence.")
