"""Which hosts and addresses are never asked: those that hand out a machine's own credentials."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: AWS, GCP, Azure, OpenStack, EKS Pod Identity, ECS
        "fe80::/10",
        "fd00:ec2::/32",  # AWS over IPv6, EKS Pod Identity too
        "fd20:ce::/32",  # GCP over IPv6
        "100.100.100.200/32",  # Alibaba Cloud
        "192.0.0.192/32",  # Oracle Cloud
        "168.63.129.16/32",  # Azure's wire server
        "0.0.0.0/8",  # "this host": connects to the machine itself
        "::/128",
        "224.0.0.0/4",
        "ff00::/8",
        "255.255.255.255/32",
    )
)
_REFUSED_NAMES = (
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
)
_NAT64 = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "::/96"))


def refused_address(text: str) -> bool:
    """Whether an address is refused; an IPv4 address inside an IPv6 one counts as itself."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return True
    return any(one in network for one in _meant(address) for network in _REFUSED)


def refused_host(host: str) -> str:
    """Why a host is refused before anything is resolved; empty where it is not."""
    name = host.rstrip(".").lower()
    if not name:
        return "is empty"
    if name in _REFUSED_NAMES:
        return "is a cloud's metadata service, which is never asked"
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return ""
    return "is a link-local or metadata address, which is never asked" if refused_address(name) else ""


def _meant(address: Address) -> tuple[Address, ...]:
    """The address, and the IPv4 address that it carries."""
    if not isinstance(address, ipaddress.IPv6Address):
        return (address,)
    carried: list[Address] = [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
    if address.teredo is not None:
        carried.extend(address.teredo)
    if any(address in network for network in _NAT64) and int(address) > 1:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return (address, *carried)
