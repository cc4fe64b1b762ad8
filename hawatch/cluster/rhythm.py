"""When a node beats: by its own clock, or, where it is at rest, with its answer to another director's beat.

Theory of operation. A beat that is due soon is brought forward to the answer to another director's, so that both are
one datagram and both nodes wake up once. The next one then waits a little beyond its time for the other's to come
first. A director that owns or wants something keeps to its own time: its renewals go with its beats.
"""

from __future__ import annotations

FOLLOW_PART = 2
"""A beat that is due within this part of a heartbeat goes with the answer to another director's beat."""
SLACK_PART = 8
"""The next one then waits this part of a heartbeat longer, for the other director's to come first; one that is not due
soon comes sooner by as much."""


class Rhythm:
    """The instants of one node's beats, in nanoseconds."""

    def __init__(self, heartbeat_ns: int, now_ns: int) -> None:
        self.heartbeat_ns = heartbeat_ns
        self.due_ns = self.next_ns = now_ns
        """When the next beat is due, and until when it waits for another director's."""
        self.following = False
        """The next beat goes with an answer to another director's."""

    @property
    def waits(self) -> bool:
        """Whether the next beat waits for another director's beyond its own time."""
        return self.next_ns > self.due_ns

    def keep_own_time(self) -> None:
        """Beat when it is due, whatever another director does."""
        self.next_ns = min(self.next_ns, self.due_ns)

    def beat(self, now_ns: int) -> int:
        """Take a beat as made now; return how late it was."""
        late_ns = now_ns - self.due_ns
        if self.following:
            self.due_ns = now_ns + self.heartbeat_ns
            self.next_ns = self.due_ns + self.heartbeat_ns // SLACK_PART
            self.following = False
        else:
            self.due_ns = self.next_ns = max(self.next_ns + self.heartbeat_ns, now_ns + self.heartbeat_ns // 2)
        return late_ns

    def follow(self, now_ns: int) -> None:
        """Beat now if that is due soon anyway; where it is due later, it comes sooner each time until it is not."""
        wait_ns = self.next_ns - now_ns
        if wait_ns <= self.heartbeat_ns // FOLLOW_PART:
            self.next_ns, self.following = min(self.next_ns, now_ns), True
        elif wait_ns < self.heartbeat_ns:
            self.next_ns -= self.heartbeat_ns // SLACK_PART
            self.due_ns = self.next_ns
