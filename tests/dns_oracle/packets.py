#!/usr/bin/python3
"""Answers to a query, good, bad and bent, and what dnspython thinks of them.

packets.py verdicts SEED COUNT      one packet a line: what it is, type and name that were asked
                                    for, hex, verdict, lenient verdict, notes
packets.py folder FOLDER            the same for the packets of a folder, a file each: as they are,
                                    and put right as answers to each type
packets.py write FOLDER SEED COUNT  packets as they may be found on a network, a file each
packets.py seeds FOLDER [PACKETS]   good answers, and the packets of a folder put right, as seeds of
                                    the fuzz target `dns_answer`

The lenient verdict is that of a reader who passes over records that it cannot read. Notes say
what is in the packet that no two readers agree on.
"""

import os
import random
import sys

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

ID = 0x1234
NAME = "www.example.test."
TYPES = ["A", "AAAA", "SRV", "HTTPS"]
IN = dns.rdataclass.IN
# It counts names, we count links.
dns.message.MAX_CHAIN = 16 + 1
# What stands in for anything wrong: the packet is no answer.
REJECT = "reject"


def rrset(owner, ttl, kind, *texts):
    return dns.rrset.from_text_list(owner, ttl, "IN", kind, list(texts))


def data_of(kind, rng, count):
    pick = rng.randrange
    if kind == "A":
        return [f"192.0.2.{pick(1, 200)}" for _ in range(count)]
    if kind == "AAAA":
        return [f"2001:db8::{pick(1, 200):x}" for _ in range(count)]
    if kind == "SRV":
        return [f"{pick(3)} {pick(9)} {pick(1, 999)} h{pick(9)}.test." for _ in range(count)]
    extra = ["", "alpn=h2", "port=8443", "alpn=h3,h2 port=99 ipv4hint=192.0.2.9"]
    return [f"{pick(1, 5)} {rng.choice(['.', 'h.test.'])} {rng.choice(extra)}" for _ in range(count)]


def good(kind, rng):
    """A message as a server would send it."""
    query = dns.message.make_query(NAME, kind, id=ID, use_edns=0, payload=1232)
    refers = rng.randrange(8) == 0
    message = dns.message.make_response(query, recursion_available=not refers)
    owner, shape = NAME, rng.randrange(10)
    if shape in (1, 2, 3):
        for link in range(rng.choice([1, 2, 3, 16, 17])):
            to = f"n{link}.example.test."
            message.answer.append(rrset(owner, rng.randrange(1, 300), "CNAME", to))
            owner = to
        if shape == 2:
            message.answer.reverse()
    if shape == 4:
        to = rng.choice([NAME, "loop.test."])
        message.answer.append(rrset(NAME, 60, "CNAME", to))
        message.answer.append(rrset("loop.test.", 60, "CNAME", NAME))
    if shape < 7 and shape != 4:
        data = data_of(kind, rng, rng.randrange(1, 6))
        message.answer.append(rrset(owner, rng.choice([0, 1, 60, 86400, 2**31 - 1]), kind, *data))
    if rng.randrange(3) == 0:
        message.answer.append(rrset("stray.test.", 60, kind, *data_of(kind, rng, 2)))
    if rng.randrange(4) == 0:
        message.answer.append(rrset(NAME, 60, "TXT", '"hello"'))
    if rng.randrange(4) == 0:
        message.additional.append(rrset("h1.test.", 60, "A", "192.0.2.77"))
    if rng.randrange(3) == 0:
        zone = rng.choice(["example.test.", "test.", ".", "other.test."])
        soa = f"ns.test. admin.test. 1 2 3 4 {rng.choice([0, 30, 300, 2**31 - 1])}"
        message.authority.append(rrset(zone, rng.choice([5, 3600]), "SOA", soa))
    elif refers:
        message.authority.append(rrset("test.", 60, "NS", "ns.test."))
    if shape == 8:
        message.set_rcode(dns.rcode.NXDOMAIN)
    if shape == 9:
        codes = [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.NOTIMP]
        message.set_rcode(rng.choice(codes))
    if rng.randrange(30) == 0:
        message.flags |= dns.flags.TC
    return message.to_wire(max_size=65535)


def bend(wire, rng):
    """The same message with a few bytes changed, removed, added or doubled."""
    wire = bytearray(wire)
    # Behind the question, mostly: what does not repeat it is no answer at once.
    first = rng.choice([0, 3, 34, 34])
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(min(first, len(wire) - 1), len(wire))
        what = rng.randrange(6)
        if what < 2:
            wire[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            wire[at] = rng.choice([0, 1, 0x3F, 0x40, 0xC0, 0xFF])
        elif what == 3 and len(wire) > 13:
            del wire[at : at + rng.choice([1, 2, 10])]
        elif what == 4:
            wire[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 2, 10])))
        else:
            wire[at : at + 2] = (0xC000 | rng.randrange(64)).to_bytes(2, "big")
        if not wire:
            return b""
    return bytes(wire)


def host(name):
    """The host that a name is, `.` for the root, or nothing."""
    if name == dns.name.root:
        return "."
    labels = [label.decode("latin-1").lower() for label in name.labels[:-1]]
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    last = labels[-1]
    number = last[2:] if last.startswith("0x") else None
    is_number = last.isdigit() or (number is not None and all(c in "0123456789abcdef" for c in number))
    if is_number or any(not label or set(label) - allowed for label in labels):
        return None
    return ".".join(labels)


def read(kind, rdata):
    """A record in the words of ours; nothing if it cannot be used."""
    if kind in ("A", "AAAA"):
        import ipaddress

        address = ipaddress.ip_address(rdata.address)
        plain = getattr(address, "ipv4_mapped", None) or address
        broadcast = plain == ipaddress.ip_address("255.255.255.255")
        usable = not (plain.is_unspecified or plain.is_multicast or broadcast)
        return str(address) if usable else None
    target = host(rdata.target)
    if target is None:
        return None
    if kind == "SRV":
        usable = rdata.port != 0 or target == "."
        return f"{rdata.priority} {rdata.weight} {rdata.port} {target}" if usable else None
    return f"{rdata.priority} {target}"


def verdict(wire, kind, name, lenient):
    try:
        query = dns.message.make_query(name, kind, id=ID)
        message = dns.message.from_wire(wire, ignore_trailing=True, continue_on_error=lenient)
        if not query.is_response(message) or len(message.question) != 1:
            return REJECT
        if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return "refused"
        if message.flags & dns.flags.TC:
            return "cut"
        chain = message.resolve_chaining()
    except dns.message.ChainTooLong:
        return "refused"
    except dns.message.AnswerForNXDOMAIN:
        return "nxdomain -"
    except Exception:  # it has dozens of kinds, and an error is an error
        return REJECT
    soa = [s for s in message.authority if s.rdtype == dns.rdatatype.SOA and s.rdclass == IN]
    soa = [s for s in soa if chain.canonical_name.is_subdomain(s.name)]
    ttls = [min(s.ttl, r.minimum) for s in soa for r in s]
    links = [c.ttl for c in chain.cnames]
    negative = min(ttls + links) if ttls else "-"
    if message.rcode() == dns.rcode.NXDOMAIN:
        return f"nxdomain {negative}"
    if chain.answer is None:
        return f"nodata {negative}"
    used = sorted(set(filter(None, (read(kind, rdata) for rdata in chain.answer))))
    ttl = min([chain.answer.ttl] + links)
    return f"found {ttl} {','.join(used)}" if used else f"nodata {ttl}"


def notes(wire):
    try:
        message = dns.message.from_wire(
            wire, ignore_trailing=True, continue_on_error=True, one_rr_per_rrset=True
        )
    except Exception:
        return ""
    found = []
    if any(isinstance(error.exception, dns.message.BadEDNS) for error in message.errors):
        # It has lost its place behind that record.
        found.append("odd-options")
    aliases = [r for r in message.answer if r.rdtype == dns.rdatatype.CNAME]
    if any(host(rdata.target) is None for r in aliases for rdata in r):
        found.append("odd-alias")
    owners = [r.name for r in aliases]
    if len(owners) != len(set(owners)):
        found.append("two-aliases")
    if set(owners) & {r.name for r in message.answer if r.rdtype != dns.rdatatype.CNAME}:
        found.append("alias-and-records")
    authority = {r.rdtype for r in message.authority if r.rdclass == IN}
    if dns.rdatatype.NS in authority and not message.flags & (dns.flags.AA | dns.flags.RA):
        found.append("referral")
    everything = message.answer + message.authority + message.additional
    if any(rdata.to_wire() == b"" for records in everything for rdata in records):
        found.append("empty-record")
    bindings = [rdata for records in message.answer for rdata in records if hasattr(rdata, "params")]
    alpn = [rdata.params[1].ids for rdata in bindings if rdata.params.get(1)]
    if any(not 0x21 <= byte <= 0x7E for ids in alpn for one in ids for byte in one):
        found.append("alpn-bytes")
    return ",".join(found)


def line(what, kind, name, wire):
    both = f"{verdict(wire, kind, name, False)}|{verdict(wire, kind, name, True)}"
    return f"{what}|{kind}|{name.rstrip('.')}|{wire.hex()}|{both}|{notes(wire)}"


def question(wire):
    """The name that a packet asks for if it is a host, the type if it is one of ours, and where
    the records begin."""
    try:
        name, length = dns.name.from_wire(wire, 12)
    except dns.exception.DNSException:
        return None, None, 12
    records = 12 + length + 4
    kind = dns.rdatatype.to_text(int.from_bytes(wire[records - 4 : records - 2], "big"))
    is_host = name.to_wire() == wire[12 : 12 + length] and host(name) not in (None, ".")
    return name if is_host else None, kind if kind in TYPES else None, records


def put_right(wire, kind, name, records):
    """What follows the question of a packet, as an answer to another one."""
    head = bytearray(wire[:12].ljust(12, b"\0"))
    head[0:2] = ID.to_bytes(2, "big")
    head[2] = head[2] & 0x07 | 0x80
    head[4:6] = b"\0\1"
    number = dns.rdatatype.from_text(kind).to_bytes(2, "big")
    return bytes(head) + name.to_wire() + number + b"\0\1" + wire[records:]


def readings(wire):
    """The questions that a packet may be an answer to, and the packet as one."""
    name, own, records = question(wire)
    name = name or dns.name.from_text(NAME)
    found = {((ID.to_bytes(2, "big") + wire[2:])[: len(wire)], own or "A")}
    found.update((put_right(wire, kind, name, records), kind) for kind in TYPES)
    return [(kind, host(name), reading) for reading, kind in sorted(found)]


def files(folder):
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                yield ascii(os.path.relpath(path, folder)).replace("|", "_"), file.read()


def found_somewhere(rng):
    """A message with any id, in any direction, to a question of any type and name."""
    kind = rng.choice(TYPES)
    wire = bytearray(good(kind, rng))
    wire[0:2] = rng.randrange(1 << 16).to_bytes(2, "big")
    if rng.randrange(4) == 0:
        wire[2] ^= rng.choice([0x80, 0x28, 0x10])
    if rng.randrange(4) == 0:
        wire[30:32] = rng.choice([2, 15, 16, 252, 255, 65280]).to_bytes(2, "big")
    if rng.randrange(8) == 0:
        wire[13] = rng.choice(b"\0*!.\xe9W")
    return bend(wire, rng) if rng.randrange(2) else bytes(wire)


def seed(number, kind, wire):
    """As `src/dns/network.rs` reads it: what is asked and how, then one answer."""
    head = bytes([kind | (number // 4 % 4) << 2])
    event = 4 << 13 | min(len(wire), 0x1FFF)
    return head + event.to_bytes(2, "big") + wire


def seeds(packets):
    rng = random.Random(1)
    for number in range(200):
        kind = number % 4
        yield f"seed-{number:03}", seed(number, kind, good(TYPES[kind], rng))
    for number, (_, wire) in enumerate(files(packets) if packets else []):
        _, own, records = question(wire)
        kind = TYPES.index(own) if own else number % 4
        wire = put_right(wire, TYPES[kind], dns.name.from_text(NAME), records)
        yield f"packet-{number:05}", seed(number, kind, wire)


def save(folder, named):
    os.makedirs(folder, exist_ok=True)
    for name, content in named:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)


def verdicts(rng, count):
    for number in range(count):
        kind = TYPES[number % 4]
        wire = good(kind, rng)
        if rng.randrange(3):
            wire = bend(wire, rng)
        print(line(number, kind, NAME, wire))


def main():
    what, *arguments = sys.argv[1:]
    # dnspython shuffles records with the common generator.
    random.seed(1)
    if what == "verdicts":
        random.seed(int(arguments[0]))
        verdicts(random.Random(int(arguments[0])), int(arguments[1]))
    elif what == "folder":
        for path, wire in files(arguments[0]):
            for kind, name, reading in readings(wire):
                print(line(path, kind, name, reading))
    elif what == "write":
        folder, start, count = arguments[0], int(arguments[1]), int(arguments[2])
        rng = random.Random(start)
        save(folder, ((f"packet-{n:05}", found_somewhere(rng)) for n in range(count)))
    else:
        save(arguments[0], seeds(arguments[1] if len(arguments) > 1 else None))


if __name__ == "__main__":
    main()
