"""Drives the stand-in of Hetzner with Hetzner's own client: create, list, change, delete of each kind.

Usage: client_hetzner.py ENDPOINT TOKEN
"""

import sys

from hcloud import APIException, Client
from hcloud.firewalls import FirewallResource, FirewallResourceLabelSelector, FirewallRule
from hcloud.images import Image
from hcloud.load_balancer_types import LoadBalancerType
from hcloud.load_balancers import (
    LoadBalancerAlgorithm,
    LoadBalancerHealthCheck,
    LoadBalancerHealthCheckHttp,
    LoadBalancerService,
    LoadBalancerServiceHttp,
    LoadBalancerTarget,
    LoadBalancerTargetLabelSelector,
)
from hcloud.locations import Location
from hcloud.networks import NetworkRoute, NetworkSubnet
from hcloud.server_types import ServerType
from hcloud.servers import ServerCreatePublicNetwork
from hcloud.ssh_keys import SSHKey

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K judge"
LABELS = {"ha/ws": "shop", "ha/region": "eu-central"}


def refused(code, act):
    """The call is refused with this code."""
    try:
        act()
    except APIException as error:
        assert error.code == code, f"expected {code}, got {error.code}: {error.message}"
    else:
        raise AssertionError(f"expected {code}, nothing was refused")


def catalog(client):
    assert {"fsn1", "nbg1", "hel1"} <= {one.name for one in client.locations.get_all()}
    assert client.server_types.get_by_name("cpx21").cores == 3
    assert client.load_balancer_types.get_by_name("lb11").max_targets == 25
    assert client.images.get_by_name_and_architecture("ubuntu-24.04", "x86").os_flavor == "ubuntu"
    assert client.certificates.get_all() == []


def network(client):
    made = client.networks.create(
        name="eu-net",
        ip_range="10.1.0.0/16",
        labels=LABELS,
        subnets=[NetworkSubnet(type="cloud", ip_range="10.1.0.0/24", network_zone="eu-central")],
    )
    refused("uniqueness_error", lambda: client.networks.create(name="eu-net", ip_range="10.2.0.0/16"))
    made.add_subnet(NetworkSubnet(type="cloud", ip_range="10.1.1.0/24", network_zone="eu-central")).wait_until_finished()
    made.delete_subnet(NetworkSubnet(ip_range="10.1.1.0/24")).wait_until_finished()
    route = NetworkRoute(destination="10.100.1.0/24", gateway="10.1.0.2")
    made.add_route(route).wait_until_finished()
    made.delete_route(route).wait_until_finished()
    made.change_protection(delete=True).wait_until_finished()
    refused("protected", made.delete)
    made.change_protection(delete=False).wait_until_finished()
    made.update(labels=LABELS | {"ha/name": "eu-net"})
    made.reload()
    assert made.labels["ha/name"] == "eu-net" and [one.ip_range for one in made.subnets] == ["10.1.0.0/24"]
    return made


def servers(client, net, key, group, firewall):
    made = []
    for n in (1, 2, 3):
        response = client.servers.create(
            name=f"eu-app-{n}",
            server_type=ServerType(name="cpx21"),
            image=Image(name="ubuntu-24.04"),
            location=Location(name="nbg1"),
            # By name: the client sends numbers as numbers, the description wants text.
            ssh_keys=[SSHKey(name=key.name)],
            networks=[net],
            placement_group=group,
            firewalls=[firewall],
            labels=LABELS | {"ha/name": f"eu-app-{n}"},
            user_data="#cloud-config\n{}\n",
            public_net=ServerCreatePublicNetwork(enable_ipv4=True, enable_ipv6=True) if n == 1 else None,
        )
        if n == 1:
            refused("locked", response.server.power_off)
        for action in [response.action, *response.next_actions]:
            action.wait_until_finished()
        made.append(response.server)
    assert [one.name for one in client.servers.get_all(label_selector="ha/ws=shop")] == ["eu-app-1", "eu-app-2", "eu-app-3"]
    assert client.servers.get_all(label_selector="ha/ws=other") == []
    page = client.servers.get_list(per_page=2, page=1)
    assert page.meta.pagination.next_page == 2 and len(page.servers) == 2
    first = client.servers.get_by_name("eu-app-1")
    assert first.status == "running" and first.private_net[0].ip == "10.1.0.2", first.private_net[0].ip
    assert first.public_net.ipv4.ip.startswith("198.18.") and not first.locked
    refused(
        "uniqueness_error",
        lambda: client.servers.create("eu-app-1", ServerType(name="cpx21"), Image(name="ubuntu-24.04")),
    )
    refused("server_not_stopped", lambda: first.change_type(ServerType(name="cpx31"), upgrade_disk=False))
    first.power_off().wait_until_finished()
    first.change_type(ServerType(name="cpx31"), upgrade_disk=False).wait_until_finished()
    first.reload()
    assert first.server_type.name == "cpx31" and first.primary_disk_size == 80 and first.status == "running"
    first.shutdown().wait_until_finished()
    first.power_on().wait_until_finished()
    first.reboot().wait_until_finished()
    first.reset().wait_until_finished()
    first.detach_from_network(net).wait_until_finished()
    first.attach_to_network(net, ip="10.1.0.77").wait_until_finished()
    first.change_alias_ips(net, ["10.1.0.78"]).wait_until_finished()
    first.enable_backup().wait_until_finished()
    first.disable_backup().wait_until_finished()
    first.rebuild(Image(name="debian-12")).action.wait_until_finished()
    first.remove_from_placement_group().wait_until_finished()
    first.power_off().wait_until_finished()
    first.add_to_placement_group(group).wait_until_finished()
    first.power_on().wait_until_finished()
    first.change_protection(delete=True, rebuild=True).wait_until_finished()
    refused("protected", first.delete)
    first.change_protection(delete=False, rebuild=False).wait_until_finished()
    first.update(name="eu-app-one", labels=LABELS | {"ha/name": "eu-app-one"})
    assert client.servers.get_by_name("eu-app-one").image.name == "debian-12"
    commands = {action.command for action in first.get_actions()}
    assert {"create_server", "change_server_type", "change_protection"} <= commands, commands
    return made


def firewall(client):
    rule = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["0.0.0.0/0", "::/0"])
    response = client.firewalls.create(name="eu-fw", rules=[rule], labels=LABELS)
    for action in response.actions:
        action.wait_until_finished()
    return response.firewall


def balancer(client, net):
    check = LoadBalancerHealthCheck(
        protocol="http",
        port=8080,
        interval=15,
        timeout=10,
        retries=3,
        http=LoadBalancerHealthCheckHttp(domain="", path="/health", response="", status_codes=["2??"], tls=False),
    )
    service = LoadBalancerService(
        protocol="http",
        listen_port=80,
        destination_port=8080,
        proxyprotocol=False,
        health_check=check,
        http=LoadBalancerServiceHttp(
            cookie_name="HCLBSTICKY", cookie_lifetime=300, timeout_idle=50, sticky_sessions=False
        ),
    )
    target = LoadBalancerTarget(
        type="label_selector",
        label_selector=LoadBalancerTargetLabelSelector(selector="ha/ws=shop"),
        use_private_ip=True,
    )
    response = client.load_balancers.create(
        name="eu-lb",
        load_balancer_type=LoadBalancerType(name="lb11"),
        location=Location(name="nbg1"),
        network=net,
        algorithm=LoadBalancerAlgorithm(type="round_robin"),
        services=[service],
        targets=[target],
        labels=LABELS,
    )
    response.action.wait_until_finished()
    made = response.load_balancer
    made.reload()
    resolved = made.targets[0].targets
    assert len(resolved) == 3 and all(one.health_status[0].status == "healthy" for one in resolved), resolved
    refused("target_already_defined", lambda: made.add_target(target))
    refused("source_port_already_used", lambda: made.add_service(service))
    tcp = LoadBalancerService(
        protocol="tcp",
        listen_port=5432,
        destination_port=5432,
        proxyprotocol=False,
        health_check=LoadBalancerHealthCheck(protocol="tcp", port=5432, interval=3, timeout=3, retries=1),
    )
    made.add_service(tcp).wait_until_finished()
    tcp.destination_port = 5433
    made.update_service(tcp).wait_until_finished()
    made.reload()
    assert made.services[1].destination_port == 5433
    made.delete_service(tcp).wait_until_finished()
    made.remove_target(target).wait_until_finished()
    server = client.servers.get_by_name("eu-app-2")
    made.add_target(LoadBalancerTarget(type="server", server=server, use_private_ip=True)).wait_until_finished()
    made.reload()
    assert made.targets[0].server.name == "eu-app-2"
    made.change_algorithm(LoadBalancerAlgorithm(type="least_connections")).wait_until_finished()
    made.change_type(LoadBalancerType(name="lb21")).wait_until_finished()
    made.disable_public_interface().wait_until_finished()
    made.enable_public_interface().wait_until_finished()
    made.update(labels=LABELS | {"ha/name": "eu-lb"})
    made.change_protection(delete=True).wait_until_finished()
    refused("protected", made.delete)
    made.change_protection(delete=False).wait_until_finished()
    made.detach_from_network(net).wait_until_finished()
    made.attach_to_network(net).wait_until_finished()
    return made


def volume(client, server):
    response = client.volumes.create(size=10, name="eu-data", server=server, format="ext4", automount=False, labels=LABELS)
    for action in [response.action, *response.next_actions]:
        action.wait_until_finished()
    made = response.volume
    made.reload()
    assert made.server.id == server.id
    refused("service_error", made.delete)
    made.detach().wait_until_finished()
    made.resize(20).wait_until_finished()
    made.attach(server, automount=False).wait_until_finished()
    made.detach().wait_until_finished()
    made.update(labels=LABELS | {"ha/name": "eu-data"})
    made.change_protection(delete=True).wait_until_finished()
    refused("protected", made.delete)
    made.change_protection(delete=False).wait_until_finished()
    assert client.volumes.get_by_name("eu-data").size == 20
    made.delete()


def primary_ip(client, server):
    response = client.primary_ips.create(type="ipv4", name="eu-ip", location=Location(name="nbg1"), labels=LABELS)
    response.action.wait_until_finished()
    made = response.primary_ip
    refused("server_has_ipv4", lambda: made.assign(server.id, "server"))
    server.power_off().wait_until_finished()
    server.reload()
    own = client.primary_ips.get_by_id(server.public_net.primary_ipv4.id)
    refused("must_be_unassigned", own.delete)
    own.unassign().wait_until_finished()
    own.delete()
    made.assign(server.id, "server").wait_until_finished()
    made.update(auto_delete=False, labels=LABELS | {"ha/name": "eu-ip"})
    made.unassign().wait_until_finished()
    made.change_protection(delete=True).wait_until_finished()
    refused("protected", made.delete)
    made.change_protection(delete=False).wait_until_finished()
    assert [one.name for one in client.primary_ips.get_all(label_selector="ha/name=eu-ip")] == ["eu-ip"]
    made.delete()
    server.power_on().wait_until_finished()


def main(endpoint, token):
    client = Client(token=token, api_endpoint=endpoint, application_name="ha-judge", poll_interval=0.02)
    catalog(client)
    key = client.ssh_keys.create(name="provisioning-key", public_key=PUBLIC_KEY, labels=LABELS)
    refused("uniqueness_error", lambda: client.ssh_keys.create(name="other", public_key=PUBLIC_KEY))
    assert client.ssh_keys.get_by_fingerprint(key.fingerprint).id == key.id
    key.update(labels=LABELS | {"ha/name": "provisioning-key"})
    group = client.placement_groups.create(name="eu-app", type="spread", labels=LABELS).placement_group
    group.update(labels=LABELS | {"ha/name": "eu-app"})
    net = network(client)
    wall = firewall(client)
    made = servers(client, net, key, group, wall)
    refused("resource_in_use", wall.delete)
    refused("resource_in_use", group.delete)
    wall.remove_from_resources([FirewallResource(type="server", server=one) for one in made])[-1].wait_until_finished()
    by_label = FirewallResource(
        type="label_selector", label_selector=FirewallResourceLabelSelector(selector="ha/ws=shop")
    )
    wall.apply_to_resources([by_label])[-1].wait_until_finished()
    wall.reload()
    assert len(wall.applied_to[0].applied_to_resources) == 3
    wall.set_rules([])[-1].wait_until_finished()
    wall.update(labels=LABELS | {"ha/name": "eu-fw"})
    wall.remove_from_resources([by_label])[-1].wait_until_finished()
    lb = balancer(client, net)
    volume(client, made[1])
    primary_ip(client, made[2])

    lb.delete()
    wall.delete()
    for server in made:
        server.delete().wait_until_finished()
    refused("not_found", lambda: client.servers.get_by_id(made[0].id))
    group.delete()
    net.delete()
    key.delete()
    for kind in ("servers", "networks", "load_balancers", "firewalls", "volumes", "placement_groups", "primary_ips", "ssh_keys"):
        left = getattr(client, kind).get_all()
        assert left == [], f"{kind} left: {left}"
    print("hcloud: every kind created, listed, changed and deleted")


if __name__ == "__main__":
    main(*sys.argv[1:])
