"""The ref-count book against a model of the server: whatever readers do, the two agree once all is quiet."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from massive_lab.live.policy import Policy
from massive_lab.live.refs import Book, Closed, Confirmed, Denied, Opened
from massive_lab.live.topics import Topic, cover

POLICY = Policy(linger_s=1.0, ack_s=5.0, batch_topics=3)
WIRES = ("T.AAPL", "T.MSFT", "T.*", "A.AAPL", "A.*", "AM.AAPL", "AM.MSFT", "Q.AAPL", "Q.MSFT")
TOPICS = [Topic.parse("stocks", wire) for wire in WIRES]


class BookMachine(RuleBasedStateMachine):
    readers = Bundle("readers")

    def __init__(self):
        super().__init__()
        self.book = Book("stocks", POLICY)
        self.now = 0.0
        self.n = 0
        self.open: dict[str, Topic] = {}
        self.is_online = False
        self.server: set[str] = set()
        self.answers: list[tuple[str, str]] = []
        self.denied: set[str] = set()
        self.denied_next: set[str] = set()
        self.opened: set[Topic] = set()

    def take(self, outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Opened):
                assert outcome.topic not in self.opened
                self.opened.add(outcome.topic)
            elif isinstance(outcome, Closed):
                self.opened.remove(outcome.topic)
            elif isinstance(outcome, Denied):
                asked = {r for r, topic in self.open.items() if topic == outcome.topic}
                assert set(outcome.readers) == asked, "told to exactly those that asked"
                assert outcome.topic.wire in self.denied
                for reader in asked:
                    del self.open[reader]
            else:
                assert isinstance(outcome, Confirmed)
                assert outcome.topic in self.opened

    @rule(target=readers, topic=st.sampled_from(TOPICS))
    def open_reader(self, topic):
        self.n += 1
        name = f"r{self.n}"
        self.open[name] = topic
        self.take(self.book.open(topic, name))
        return name, topic

    @rule(reader=consumes(readers))
    def close_reader(self, reader):
        name, topic = reader
        self.open.pop(name, None)
        self.take(self.book.close(topic, name, self.now))

    @rule(reader=readers)
    def leaving_twice_changes_nothing(self, reader):
        name, topic = reader
        if name not in self.open:
            before = self.book.wanted
            assert self.book.close(topic, name, self.now) == [] or self.book.wanted != before

    @rule(delta=st.sampled_from((0.1, 0.5, 1.1)))
    def time_passes(self, delta):
        self.now += delta
        self.deliver()  # an answer is never as late as its deadline in this model
        self.take(self.book.tick(self.now))

    @precondition(lambda self: not self.is_online)
    @rule()
    def connect(self):
        self.is_online = True
        self.server.clear()
        self.answers.clear()
        self.book.online()

    @precondition(lambda self: self.is_online)
    @rule()
    def disconnect(self):
        self.is_online = False
        self.server.clear()
        self.answers.clear()
        self.book.offline()

    @rule(wires=st.sets(st.sampled_from(WIRES), max_size=3))
    def plan_changes(self, wires):
        self.denied_next = wires

    @rule()
    def send(self):
        message = self.book.next_send(self.now)
        if message is None:
            return
        assert self.is_online
        assert not self.answers, "one control message in flight"
        assert len(message.topics) <= POLICY.batch_topics
        self.denied = set(self.denied_next)
        confirmations, refusals = [], []
        for topic in message.topics:
            if message.action == "unsubscribe":
                assert topic.wire in self.server
                self.server.discard(topic.wire)
                confirmations.append(("success", f"unsubscribed to: {topic.wire}"))
                continue
            assert topic.wire not in self.server, "never subscribed twice"
            if topic.wire in self.denied:
                refusals.append(("error", "not authorized"))
            else:
                self.server.add(topic.wire)
                confirmations.append(("success", f"subscribed to: {topic.wire}"))
        self.answers = refusals + confirmations

    @rule()
    def deliver(self):
        while self.answers:
            self.take(self.book.status(*self.answers.pop(0)))

    @rule()
    def settle(self):
        """Let everything in flight and every linger end; then the server must hold exactly what is wanted."""
        if not self.is_online:
            return
        self.deliver()
        self.now += 1.5
        self.take(self.book.tick(self.now))
        for _ in range(60):
            self.send()
            self.deliver()
        assert self.server == {topic.wire for topic in cover(self.open.values())}
        assert {topic.wire for topic in self.book.held} == self.server
        assert self.book.deadline is None
        assert all(self.book.state(topic) == "confirmed" for topic in self.open.values())

    @invariant()
    def the_book_knows_its_readers(self):
        assert set(self.open.values()) <= set(self.book.wanted)
        assert self.opened == set(self.book.wanted)
        for topic in self.book.wanted:
            assert set(self.book.readers(topic)) == {r for r, t in self.open.items() if t == topic}


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
