"""The events of one site that may go into a POST now. Pure: no I/O, and no clock but the times passed in.

While an event of a user is in a post that was not answered, later events of that user wait behind it; those of others
do not. An event of several users waits for each of them.
"""

import heapq
from collections import Counter
from collections.abc import Iterable

from app.webhooks.event import HookPost, OutboxEvent

#: The events of one POST, and their bytes.
MAX_EVENTS_PER_POST = 100
MAX_POST_BYTES = 1_000_000
#: The events that a node holds for a site, as many as the outbox; the others are read later.
MAX_HELD_EVENTS = 10_000
#: The posts of a site without an answer. Past it events wait in the outbox.
MAX_OPEN_POSTS = 1_000

#: The event's place in the outbox, when it was read, and the event.
_Held = tuple[tuple[int, int], float, OutboxEvent]


class Lanes:
    """The events and posts of a site that are on their way. Lives while the node has the site's lease."""

    def __init__(self, posts: Iterable[HookPost] = ()) -> None:
        self.posts = {post.id: post for post in posts}
        #: The last entry that was read, b"" at the beginning.
        self.cursor = b""
        #: User -> the posts without an answer that hold an event of this user.
        self._held = Counter(user for post in self.posts.values() for user in post.users)
        #: A heap of the events that may be ready.
        self._fresh: list[_Held] = []
        #: User -> the events that wait until the posts of this user are answered.
        self._blocked: dict[str, list[_Held]] = {}
        #: User -> the users in `_blocked` that hold up one of its events, and how many.
        self._behind: dict[str, Counter[str]] = {}
        self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether no further events are to be read now."""
        return self._count >= MAX_HELD_EVENTS

    def add(self, events: Iterable[OutboxEvent], now: float) -> None:
        """Adds events that follow the last ones in the outbox."""
        for event in events:
            heapq.heappush(self._fresh, (_place_of(event), now, event))
            self.cursor = event.entry
            self._count += 1

    def ready_since(self) -> float | None:
        """When the oldest event that may be ready was read; `-inf` when there are enough for a POST."""
        self._set_aside()
        if len(self.posts) >= MAX_OPEN_POSTS or not self._fresh:
            return None
        return float("-inf") if len(self._fresh) >= MAX_EVENTS_PER_POST else self._fresh[0][1]

    def choose(self) -> list[OutboxEvent]:
        """Takes out the next events of one POST, in order; none when there is none."""
        chosen: list[OutboxEvent] = []
        size = 0
        self._set_aside()
        while self._fresh and len(chosen) < MAX_EVENTS_PER_POST:
            event = self._fresh[0][2]
            size += len(event.text)
            if chosen and size > MAX_POST_BYTES:
                break
            if blocker := self._blocker_of(event):
                self._block(heapq.heappop(self._fresh), blocker)
                continue
            heapq.heappop(self._fresh)
            chosen.append(event)
        self._count -= len(chosen)
        return chosen

    def open(self, post: HookPost) -> None:
        """The events of this post are on their way; later ones of its users wait."""
        self.posts[post.id] = post
        self._held.update(post.users)

    def close(self, post: HookPost) -> None:
        """The post was answered, or given up: the events behind it may go."""
        if self.posts.pop(post.id, None) is None:
            return
        for user in post.users:
            self._held[user] -= 1
            if self._held[user] <= 0:
                del self._held[user]
                self._unblock(user)

    def due_posts(self, now_ms: int) -> list[HookPost]:
        """The posts to be sent now, the one due first."""
        due = [post for post in self.posts.values() if post.due_ms <= now_ms and not post.is_under_way]
        return sorted(due, key=lambda post: (post.due_ms, post.seqs[:1]))

    def next_due_ms(self) -> int | None:
        """When the next post is to be sent."""
        return min((post.due_ms for post in self.posts.values() if not post.is_under_way), default=None)

    def _set_aside(self) -> None:
        """Blocks the first events until the first one is ready."""
        while self._fresh and (blocker := self._blocker_of(self._fresh[0][2])):
            self._block(heapq.heappop(self._fresh), blocker)

    def _blocker_of(self, event: OutboxEvent) -> str | None:
        for user in event.users:
            if user in self._held:
                return user
            if behind := self._behind.get(user):
                return next(iter(behind))
        return None

    def _block(self, held: _Held, blocker: str) -> None:
        self._blocked.setdefault(blocker, []).append(held)
        for user in held[2].users:
            self._behind.setdefault(user, Counter())[blocker] += 1

    def _unblock(self, blocker: str) -> None:
        for held in self._blocked.pop(blocker, ()):
            heapq.heappush(self._fresh, held)
            for user in held[2].users:
                behind = self._behind[user]
                behind[blocker] -= 1
                if not behind[blocker]:
                    del behind[blocker]
                if not behind:
                    del self._behind[user]


def _place_of(event: OutboxEvent) -> tuple[int, int]:
    at_ms, _, number = event.entry.partition(b"-")
    return int(at_ms), int(number)
