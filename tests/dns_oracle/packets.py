#!/usr/bin/python3
"""Answers to a query, good, bad and bent, and what dnspython thinks of them.

packets.py verdicts SEED COUNT   one packet a line: type, hex, verdict, lenient verdict, notes
packets.py seeds FOLDER          the good ones as seeds of the fuzz target `dns_answer`

The lenient verdict is that of a reader who passes over records that it cannot read. Notes say
what is in the packet that no two readers agree on.
"""

import os
import random
import sys

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
    message = dns.message.make_response(query, recursion_available=True)
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


def verdict(wire, kind, lenient):
    try:
        query = dns.message.make_query(NAME, kind, id=ID)
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
    owners = [r.name for r in message.answer if r.rdtype == dns.rdatatype.CNAME]
    if len(owners) != len(set(owners)):
        found.append("two-aliases")
    if set(owners) & {r.name for r in message.answer if r.rdtype != dns.rdatatype.CNAME}:
        found.append("alias-and-records")
    everything = message.answer + message.authority + message.additional
    if any(rdata.to_wire() == b"" for records in everything for rdata in records):
        found.append("empty-record")
    bindings = [rdata for records in message.answer for rdata in records if hasattr(rdata, "params")]
    alpn = [rdata.params[1].ids for rdata in bindings if rdata.params.get(1)]
    if any(not 0x21 <= byte <= 0x7E for ids in alpn for one in ids for byte in one):
        found.append("alpn-bytes")
    return ",".join(found)


def main():
    if sys.argv[1] == "seeds":
        folder = sys.argv[2]
        os.makedirs(folder, exist_ok=True)
        rng = random.Random(1)
        random.seed(1)
        for number in range(200):
            kind = number % 4
            wire = good(TYPES[kind], rng)
            # As `src/dns/bytes.rs` reads it: what is asked and how, then one answer.
            head = bytes([kind | (number // 4 % 4) << 2])
            event = 4 << 13 | min(len(wire), 0x1FFF)
            with open(os.path.join(folder, f"seed-{number:03}"), "wb") as file:
                file.write(head + event.to_bytes(2, "big") + wire)
        return
    rng = random.Random(int(sys.argv[2]))
    # dnspython shuffles records with the common generator.
    random.seed(int(sys.argv[2]))
    for number in range(int(sys.argv[3])):
        kind = TYPES[number % 4]
        wire = good(kind, rng)
        if rng.randrange(3):
            wire = bend(wire, rng)
        both = f"{verdict(wire, kind, False)}|{verdict(wire, kind, True)}"
        print(f"{kind}|{wire.hex()}|{both}|{notes(wire)}")


if __name__ == "__main__":
    main()
