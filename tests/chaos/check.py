# SPDX-License-Identifier: MIT
"""Reads all journals and the daemon's log, and accounts for every message.

The daemon's counters and what the peers saw must agree exactly, peer by peer:

    lost requests = (asked - in)       between a client and the daemon
                  + dropped            by the daemon, for a named reason
                  + (out - got)        between the daemon and a worker

and the same for the replies, where asked and got come from the journals, in and
out from the daemon's line about each connection's end.  A difference at a peer
needs a connection that ended early there, and that end a cause: a fault of that
peer.  A peer whose connections all lasted to the end has lost nothing.

With redeliver a request may be delivered more than once, as often as the daemon says; and every
request of a client whose connection lasted to the end has exactly one reply.
"""

import collections

from peers import owner

LEAVING = {"peer_closed", "io_error", "duplicate_routing_id"}
SLOW = {"send_timeout", "heartbeat_timeout", "receive_timeout", "over_limit"}
# For each fault of a peer, the reasons for which its connection may end.
ALLOWED = {
    "stop": LEAVING | SLOW,
    "kill": LEAVING,
    "slow": LEAVING | SLOW,
    "deaf": LEAVING | SLOW,
    "late": LEAVING | SLOW,
    "stuck": LEAVING | SLOW,
    "pingless": LEAVING | {"heartbeat_timeout"},
    "reset": LEAVING,
    "cut": LEAVING,
    "half_close": LEAVING,
    "leave": LEAVING,
    "link": LEAVING | SLOW,
    "dead_link": LEAVING | SLOW,
    "term": LEAVING | {"shutdown"},
    "starved": SLOW,
}
ENDED = {"kill", "stop", "slow", "deaf", "late", "stuck", "pingless", "reset", "cut", "half_close",
         "leave", "link", "dead_link", "starved", "term"}
# For each drop reason, the faults that can cause it.
DROPS = {
    "requests": {"shutdown": {"term"}, "late_reply": {"redeliver"}, "peer_gone": ENDED},
    "replies": {
        "late_reply": {"redeliver"},
        "unroutable": ENDED,
        "peer_gone": ENDED,
        "queue_full": {"stop", "slow", "deaf", "late", "stuck", "starved", "link", "low_limit"},
        "shutdown": {"term"},
    },
}
# Events that concern every peer, and explain little about one of them.
GENERAL = {"memory_limit", "low_limit", "storm", "no_descriptors", "redeliver"}


class Group:
    """Streams that the daemon's log cannot tell apart: one routing id, or one raw address."""

    def __init__(self, key):
        self.key = key
        self.streams = set()
        self.conns = []
        self.asked = self.got = self.timeouts = 0
        self.unsent = 0
        self.faults = set()
        self.ends = []

    @property
    def early(self):
        return [c for c in self.conns if c.early]

    def cause(self):
        return "%s -> %s" % (
            "+".join(sorted(self.faults - GENERAL)) or "nothing",
            "+".join(sorted({c.reason for c in self.early})) or
            ("never ready" if not self.conns else "no end"))


class Conn:
    """One connection, from the daemon's log."""

    def __init__(self, ready):
        self.side, self.address = ready["side"], ready["address"]
        shown = ready["routing_id"]
        self.id = None if shown == "-" else shown
        if shown.startswith("0x"):
            self.id = bytes.fromhex(shown[2:]).decode("latin-1")
        self.reason, self.early = None, True
        self.ins = self.outs = 0
        self.text = ""

    def end(self, closed, early):
        self.reason, self.early = closed["reason"], early
        self.ins, self.outs = int(closed["messages_in"]), int(closed["messages_out"])
        self.text = " ".join("%s=%s" % x for x in closed.items())


def read_log(world):
    conns = []
    for i, d in enumerate(world.daemons):
        last = i + 1 == len(world.daemons)
        open_ = {}
        for at, e in enumerate(d.events):
            if e["event"] == "peer_ready":
                c = open_[e["peer"]] = Conn(e)
                conns.append(c)
            elif e["event"] == "peer_closed":
                open_.pop(e["peer"]).end(
                    e, not (last and world.settled_at is not None and at >= world.settled_at))
    return conns


class Checker:
    def __init__(self, world):
        self.world = world
        self.errors = []
        self.losses = collections.Counter()
        self.stats = collections.Counter()
        self.kinds = collections.Counter()   # of the raw connections that misbehaved
        self.groups = {}
        self.group_of = {}           # stream -> Group
        self.side = {}               # stream -> which side it is on
        self.suspects = set()        # groups and messages whose history is printed
        self.journal = []            # (time, kind, fields)
        self.asked, self.got, self.answered, self.replied = {}, {}, {}, {}

    def bad(self, text, *suspects):
        self.errors.append(text)
        self.suspects.update(suspects)

    # -- reading

    def read(self):
        w = self.world
        faults = collections.defaultdict(set)
        for _, kind, name in w.faults:
            faults[name].add(kind)
        by_owner = collections.Counter()
        for h in w.handles:
            side = "frontend" if h.spec["role"].endswith("client") else "backend"
            if h.spec["role"] in ("storm", "link"):
                continue
            if h.spec["role"] in ("client", "worker"):
                g = self.group(h.spec.get("identity") or "anonymous " + side)
                g.streams.add(h.spec["stream"])
                g.faults |= faults[h.name] | faults["all"]
                self.group_of[h.spec["stream"]] = g
                self.side[h.spec["stream"]] = side
            with open(h.spec["journal"], encoding="utf-8") as f:
                for line in f:
                    words = line.split()
                    entry = (float(words[0]), words[1], words[2:], h)
                    self.journal.append(entry)
                    if words[1] == "L":
                        stream, address, kind = words[2:5]
                        g = self.group((side, address))
                        self.kinds[kind] += kind != "plain"
                        g.streams.add(stream)
                        g.faults |= faults[h.name] | faults["all"]
                        if kind != "plain":
                            g.faults |= {kind if kind in ALLOWED else "leave"}
                        if "." in stream:
                            by_owner[owner(stream)] += 1
                            g.owner = owner(stream)
                        self.group_of[stream] = g
                        self.side[stream] = side
                    elif words[1] == "E":
                        self.group_of[words[2]].ends.append(words[3])
        for _, kind, f, h in self.journal:
            if kind == "Z":
                for stream, g in self.group_of.items():
                    if stream == h.spec.get("stream") or stream.startswith(h.name + "x") or \
                            stream.startswith(h.name + "i"):
                        g.faults.add("starved")
                self.stats["starved"] += 1
        for g in self.groups.values():
            if by_owner[getattr(g, "owner", None)] > 1:
                g.faults.add("leave")        # its id may be taken over
        self.journal.sort(key=lambda e: e[0])
        for c in read_log(w):
            g = self.groups.get((c.side, c.address)) or \
                self.groups.get(c.id or "anonymous " + c.side)
            if g is None:
                self.bad("the daemon has a peer that nobody is: %s" % c.text)
                continue
            g.conns.append(c)

    def group(self, key):
        if key not in self.groups:
            self.groups[key] = Group(key)
        return self.groups[key]

    # -- messages

    def follow(self):
        """Duplicates, misdelivery, order; how much each peer sent and received."""
        asked, answered, replied = self.asked, self.answered, self.replied
        last_request, last_reply = {}, {}
        for _, kind, f, h in self.journal:
            if kind == "S":
                asked[f[0], f[1]] = h
                self.group_of[f[0]].asked += 1
            elif kind == "U":
                table = asked if (f[0], f[1]) in asked else answered
                del table[f[0], f[1]]
                self.group_of[f[0]].asked -= 1
                self.group_of[f[0]].unsent += 1
            elif kind == "A":
                answered[f[0], f[1]] = (f[2], f[3])
                self.group_of[f[0]].asked += 1
            elif kind == "T":
                self.group_of[f[0]].timeouts += 1
            elif kind == "X":
                self.bad("%s: %s" % (h.name, " ".join(f)))
        for _, kind, f, h in self.journal:
            if kind == "G":
                self.on_request(f[0], f[1], int(f[2]), last_request)
            elif kind == "R":
                self.on_reply(f[0], f[1], f[2], f[3], int(f[4]), last_reply)
        rerouted = sum(s.backend["rerouted"] for s in self.world.final)
        redelivered = sum(s.backend["redelivered"] for s in self.world.final)
        if self.stats["late requests"] > rerouted + redelivered:
            self.bad("%d requests overtaken, but only %d rerouted and %d redelivered"
                     % (self.stats["late requests"], rerouted, redelivered))
        self.stats["rerouted"] = rerouted
        self.stats["redelivered"] = redelivered
        self.stats["requests"] = len(asked)
        self.stats["replies"] = len(replied)

    def exactly_one(self):
        """A second reply is one that its client no longer waits for: see Asker.take."""
        missing = collections.Counter(stream for stream, _ in self.asked)
        for _, kind, f, _ in self.journal:
            if kind == "R":
                missing[f[1]] -= 1
        for stream, n in missing.items():
            g = self.group_of[stream]
            if g.early or len(g.conns) != 1 or len(g.streams) != 1:
                continue
            self.stats["exactly one"] += sum(s == stream for s, _ in self.asked)
            # a REQ that asks again throws away the reply to what it asked before
            if n and not (self.is_req(g) and 0 < n <= g.timeouts):
                self.bad("%s: %d requests without a reply, and it was there all the time"
                         % (stream, n), g)

    def steady(self, *streams):
        """No stream has a connection after another, so order holds between them."""
        groups = [self.group_of[s] for s in streams]
        return all(not g.early and len(g.conns) <= len(g.streams) for g in groups)

    def on_request(self, wstream, stream, n, last):
        if (stream, str(n)) not in self.asked:
            self.bad("%s has a request that nobody sent: %s %d" % (wstream, stream, n), (stream, n))
            return
        if (stream, n) in self.got and self.world.redeliver:
            self.stats["delivered again"] += 1
        elif (stream, n) in self.got:
            self.bad("request %s %d was delivered twice, to %s and %s"
                     % (stream, n, self.got[stream, n], wstream), (stream, n))
        self.got[stream, n] = wstream
        self.group_of[wstream].got += 1
        if n < last.get((stream, wstream), 0):
            kind = "late requests" if self.steady(stream, wstream) else "reordered by a reconnect"
            self.stats[kind] += 1
            if kind == "late requests":
                self.suspects.add((stream, n))
        else:
            last[stream, wstream] = n

    def on_reply(self, me, stream, n, wstream, wseq, last):
        if self.answered.get((wstream, str(wseq))) != (stream, n):
            self.bad("%s has a reply that nobody gave: %s %d to %s %s"
                     % (me, wstream, wseq, stream, n), (stream, int(n)))
            return
        if (wstream, wseq) in self.replied:
            self.bad("reply %s %d came twice" % (wstream, wseq), (stream, int(n)))
        self.replied[wstream, wseq] = me
        self.group_of[me].got += 1
        if wseq < last.get((wstream, me), 0):
            if self.steady(me, wstream):
                self.bad("reply %s %d to %s came after %d"
                         % (wstream, wseq, me, last[wstream, me]), (stream, int(n)))
            self.stats["reordered by a reconnect"] += 1
        else:
            last[wstream, me] = wseq

    # -- accounts

    def balance(self):
        w = self.world
        faults = set()
        for g in self.groups.values():
            faults |= g.faults
            self.account(g, self.side[next(iter(g.streams))])
        for side, dest in (("backend", "requests"), ("frontend", "replies")):
            other = "frontend" if side == "backend" else "backend"
            total = collections.Counter()
            for s in w.final:
                total.update(s.side(side))
            seen_in = sum(c.ins for g in self.groups.values() for c in g.conns if c.side == other)
            seen_out = sum(c.outs for g in self.groups.values() for c in g.conns if c.side == side)
            if (seen_in, seen_out) != (total["received"], total["sent"]):
                self.bad("%s: the connections took %d and gave %d, the counters say %d and %d"
                         % (dest, seen_in, seen_out, total["received"], total["sent"]))
            if total["queued"]:
                self.bad("%s: %d still queued in the end" % (dest, total["queued"]))
            for key, value in total.items():
                if not key.startswith("drop_") or not value:
                    continue
                reason = key[5:]
                self.losses["%s dropped: %s" % (dest, reason)] += value
                expected = DROPS[dest].get(reason, set()) & faults
                if (dest, reason) == ("requests", "peer_gone") and not w.redeliver:
                    expected = None      # requests of a disconnected client are still delivered
                if not expected:
                    self.bad("%s: %d dropped as %s, and nothing was done to cause it"
                             % (dest, value, reason))
            sent = self.asked if side == "backend" else self.answered
            came = self.got if side == "backend" else self.replied
            lost = len(sent) - len(came)
            known = sum(v for k, v in self.losses.items() if k.startswith(dest))
            if side == "backend":        # not every redelivered request had been received before
                known += self.stats["delivered again"] - self.stats["redelivered"]
            self.stats["%s lost" % dest] = lost
            if lost != known:
                self.bad("%s: %d lost, %d with a known cause" % (dest, lost, known))

    def account(self, g, side):
        """asked >= in, out >= got; equal except where a connection ended early, for a cause."""
        client = side == "frontend"
        ins, outs = sum(c.ins for c in g.conns), sum(c.outs for c in g.conns)
        missing_in, missing_out = g.asked - ins, outs - g.got
        self.losses["%s lost on the way in: %s" % ("requests" if client else "replies",
                                                    g.cause())] += missing_in
        what = "replies" if client else "requests"
        text = "%s (%s): asked %d, the daemon took %d and gave %d, it got %d" % (
            g.key, g.cause(), g.asked, ins, outs, g.got)
        if missing_in < 0 or missing_out < 0:
            self.bad("more than there was: " + text, g)
        for c in g.conns:
            if c.reason is None:
                self.bad("the daemon never said that it closed %s of %s" % (c.address, g.key), g)
            elif c.early and not any(c.reason in ALLOWED.get(f, ()) for f in g.faults):
                self.bad("closed without a cause: %s: %s" % (text, c.text), g)
            elif not c.early and c.reason not in ("peer_closed", "shutdown", "io_error"):
                self.bad("a bad end: %s: %s" % (text, c.text), g)
        if g.early or (not g.conns and g.faults):
            self.losses["%s lost on the way out: %s" % (what, g.cause())] += missing_out
            reasons = {c.reason for c in g.early}
            if missing_in and g.ends[:1] == ["half_close"] and len(g.conns) == 1 and \
                    reasons == {"peer_closed"}:
                self.bad("what came before a half-close was not read: " + text, g)
            # "late" reads everything that the daemon's kernel took for it, but too late
            if missing_out and g.ends == ["eof"] and "late" in g.faults and len(g.conns) == 1 and \
                    reasons <= SLOW:
                self.bad("counted as sent, and the kernel never had it: " + text, g)
            if missing_out and reasons == {"shutdown"} and g.faults - GENERAL == {"term"} and not (
                    client and missing_out <= g.timeouts and self.is_req(g)):
                self.bad("lost in a drain by a peer that was well: " + text, g)
            return
        if missing_in:
            self.bad("lost on a connection that lived to the end: " + text, g)
        if missing_out:
            # a REQ that asks again throws away the reply to what it asked before
            if client and missing_out <= g.timeouts and self.is_req(g):
                self.losses["replies too late for a REQ"] += missing_out
            else:
                self.bad("lost on a connection that lived to the end: " + text, g)

    def is_req(self, g):
        return any(h.spec.get("type") == "REQ" and h.spec["stream"] in g.streams
                   for h in self.world.handles)

    # -- everything

    def run(self):
        self.read()
        self.follow()
        if self.world.redeliver:
            self.exactly_one()
        self.balance()
        self.losses = +self.losses
        return not self.errors

    def history(self, limit=8):
        out = []
        for s in list(self.suspects)[:limit]:
            if isinstance(s, Group):
                out.append("  %s: streams %s, faults %s, ends %s" % (
                    s.key, sorted(s.streams), sorted(s.faults), s.ends))
                out += ["    | %s early=%s" % (c.text, c.early) for c in s.conns]
                lines = [e for e in self.journal if e[2] and e[2][0] in s.streams]
                name = "its journal's end"
            else:
                pair = [s[0], str(s[1])]
                lines = [e for e in self.journal
                         if pair in (e[2][-2:], e[2][:2]) or e[2][1:3] == pair]
                name = "message %s %s" % s
            out.append("  %s" % name)
            out += ["    %.3f %s: %s %s" % (t, h.name, kind, " ".join(f))
                    for t, kind, f, h in lines[-12:]]
        return "\n".join(out)
