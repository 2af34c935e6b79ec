"""Drives the stand-in of DigitalOcean with DigitalOcean's own client: create, list, change, delete of each kind.

Usage: client_digitalocean.py ENDPOINT TOKEN
"""

import sys
import time

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy
from pydo import Client

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K judge"
TAGS = ["ha:ws:shop", "ha:region:us-east"]


def refused(status, act):
    """The call is refused with this status."""
    try:
        answer = act()
    except HttpResponseError as error:
        assert error.status_code == status, f"expected {status}, got {error.status_code}: {error.message}"
        return
    # The client hands a documented error back as an answer.
    ids = {403: "forbidden", 404: "not_found", 409: "conflict", 412: "precondition_failed", 422: "unprocessable_entity"}
    assert isinstance(answer, dict) and answer.get("id") == ids[status], f"expected {status}, got {answer}"


def until(what, look):
    """Looks until it is so."""
    for _ in range(500):
        if look():
            return
        time.sleep(0.02)
    raise AssertionError(f"never came true: {what}")


def done(client, action):
    until(f"action {action}", lambda: client.actions.get(action)["action"]["status"] == "completed")


def catalog(client):
    assert client.account.get()["account"]["status"] == "active"
    assert "nyc3" in [one["slug"] for one in client.regions.list()["regions"]]
    sizes = {one["slug"]: one for one in client.sizes.list(per_page=200)["sizes"]}
    assert sizes["s-2vcpu-4gb"]["price_monthly"] == 24 and "nyc3" in sizes["s-2vcpu-4gb"]["regions"]
    assert client.images.get("ubuntu-24-04-x64")["image"]["distribution"] == "Ubuntu"
    assert client.images.list(type="distribution")["images"]
    assert client.certificates.list()["certificates"] == []


def vpc(client):
    # The first in a region is the default one for good, so ours is the second.
    client.vpcs.create({"name": "first", "region": "nyc3"})
    made = client.vpcs.create(
        {"name": "us-net", "region": "nyc3", "ip_range": "10.0.0.0/16", "description": "ha:ws:shop"}
    )["vpc"]
    refused(422, lambda: client.vpcs.create({"name": "us-net", "region": "nyc3"}))
    refused(422, lambda: client.vpcs.create({"name": "other", "region": "nyc3", "ip_range": "10.0.4.0/24"}))
    client.vpcs.patch(made["id"], {"description": "ha:ws:shop ha:name:us-net"})
    client.vpcs.update(made["id"], {"name": "us-net", "description": "ha:ws:shop"})
    got = client.vpcs.get(made["id"])["vpc"]
    assert got["ip_range"] == "10.0.0.0/16" and got["description"] == "ha:ws:shop" and not got["default"], got
    default = next(one for one in client.vpcs.list()["vpcs"] if one["default"])
    refused(403, lambda: client.vpcs.delete(default["id"]))
    return made["id"]


def droplets(client, net, key):
    made = []
    for n in (1, 2, 3):
        answer = client.droplets.create(
            {
                "name": f"us-app-{n}",
                "region": "nyc3",
                "size": "s-2vcpu-4gb",
                "image": "ubuntu-24-04-x64",
                "ssh_keys": [key["id"]],
                "vpc_uuid": net,
                "tags": TAGS + [f"ha:name:us-app-{n}"],
                "user_data": "#cloud-config\n{}\n",
            }
        )
        assert answer["droplet"]["status"] == "new" and answer["droplet"]["networks"]["v4"] == []
        if n == 1:
            refused(422, lambda: client.droplet_actions.post(answer["droplet"]["id"], {"type": "power_off"}))
        done(client, answer["links"]["actions"][0]["id"])
        made.append(answer["droplet"]["id"])
    assert [one["id"] for one in client.droplets.list(tag_name="ha:ws:shop")["droplets"]] == made
    assert len(client.droplets.list(name="us-app-2")["droplets"]) == 1
    first = client.droplets.list(per_page=2)
    assert "next" in first["links"]["pages"] and "next" not in client.droplets.list(per_page=2, page=2)["links"]["pages"]
    got = client.droplets.get(made[0])["droplet"]
    assert got["status"] == "active" and got["vpc_uuid"] == net
    assert {one["type"] for one in got["networks"]["v4"]} == {"public", "private"}
    refused(422, lambda: client.droplet_actions.post(made[0], {"type": "resize", "size": "s-4vcpu-8gb"}))
    for body in (
        {"type": "power_off"},
        {"type": "resize", "size": "s-4vcpu-8gb", "disk": False},
        {"type": "power_on"},
        {"type": "reboot"},
        {"type": "rename", "name": "us-app-one"},
        {"type": "enable_ipv6"},
        {"type": "rebuild", "image": "debian-12-x64"},
    ):
        done(client, client.droplet_actions.post(made[0], body)["action"]["id"])
    got = client.droplets.get(made[0])["droplet"]
    assert (got["name"], got["size_slug"], got["disk"]) == ("us-app-one", "s-4vcpu-8gb", 80), got
    assert len(client.droplet_actions.list(made[0])["actions"]) == 8
    pair = client.droplets.create(
        {"names": ["us-x", "us-x"], "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "vpc_uuid": net}
    )
    assert [one["name"] for one in pair["droplets"]] == ["us-x", "us-x"]
    for link in pair["links"]["actions"]:
        done(client, link["id"])
    for one in pair["droplets"]:
        client.droplets.destroy(one["id"])
    return made


def tags(client, made):
    client.tags.create({"name": "ha:spec:0123456789abcdef"})
    body = {"resources": [{"resource_id": str(made[0]), "resource_type": "droplet"}]}
    client.tags.assign_resources("ha:spec:0123456789abcdef", body)
    assert len(client.droplets.list(tag_name="ha:spec:0123456789abcdef")["droplets"]) == 1
    client.tags.unassign_resources("ha:spec:0123456789abcdef", body)
    assert client.droplets.list(tag_name="ha:spec:0123456789abcdef")["droplets"] == []
    assert client.tags.get("ha:ws:shop")["tag"]["resources"]["droplets"]["count"] == 3
    assert "ha:ws:shop" in [one["name"] for one in client.tags.list()["tags"]]
    client.tags.delete("ha:spec:0123456789abcdef")
    refused(404, lambda: client.tags.get("ha:spec:0123456789abcdef"))


def balancer(client, net, made):
    wanted = {
        "name": "us-lb",
        "region": "nyc3",
        "vpc_uuid": net,
        "tag": "ha:ws:shop",
        "forwarding_rules": [
            {"entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080}
        ],
        "health_check": {"protocol": "http", "port": 8080, "path": "/health"},
    }
    lb = client.load_balancers.create(wanted)["load_balancer"]["id"]
    until("load balancer active", lambda: client.load_balancers.get(lb)["load_balancer"]["status"] == "active")
    got = client.load_balancers.get(lb)["load_balancer"]
    assert got["droplet_ids"] == made and got["health_check"]["path"] == "/health", got
    by_number = {key: value for key, value in wanted.items() if key != "tag"} | {"droplet_ids": made[:1]}
    client.load_balancers.update(lb, by_number)
    client.load_balancers.add_droplets(lb, {"droplet_ids": made[1:]})
    client.load_balancers.remove_droplets(lb, {"droplet_ids": made[:1]})
    assert client.load_balancers.get(lb)["load_balancer"]["droplet_ids"] == made[1:]
    rule = {"entry_protocol": "tcp", "entry_port": 5432, "target_protocol": "tcp", "target_port": 5432}
    client.load_balancers.add_forwarding_rules(lb, {"forwarding_rules": [rule]})
    client.load_balancers.remove_forwarding_rules(lb, {"forwarding_rules": [rule]})
    assert len(client.load_balancers.list()["load_balancers"][0]["forwarding_rules"]) == 1
    return lb


def firewall(client, made):
    rules = {
        "inbound_rules": [{"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}}],
        "outbound_rules": [{"protocol": "tcp", "ports": "all", "destinations": {"addresses": ["0.0.0.0/0"]}}],
    }
    wall = client.firewalls.create({"name": "us-fw", "tags": ["ha:ws:shop"]} | rules)["firewall"]["id"]
    refused(409, lambda: client.firewalls.create({"name": "us-fw"} | rules))
    until("firewall succeeded", lambda: client.firewalls.get(wall)["firewall"]["status"] == "succeeded")
    client.firewalls.assign_droplets(wall, {"droplet_ids": made})
    client.firewalls.delete_droplets(wall, {"droplet_ids": made})
    client.firewalls.delete_tags(wall, {"tags": ["ha:ws:shop"]})
    client.firewalls.add_tags(wall, {"tags": ["ha:ws:shop"]})
    more = {"inbound_rules": [{"protocol": "udp", "ports": "53", "sources": {"addresses": ["10.0.0.0/16"]}}]}
    client.firewalls.add_rules(wall, more)
    client.firewalls.delete_rules(wall, more)
    client.firewalls.update(wall, {"name": "us-wall", "droplet_ids": made} | rules)
    got = client.firewalls.list()["firewalls"][0]
    assert got["name"] == "us-wall" and got["tags"] == [] and got["droplet_ids"] == made, got
    client.firewalls.delete(wall)


def volume(client, made):
    body = {"name": "us-data", "region": "nyc3", "size_gigabytes": 10, "filesystem_type": "ext4", "tags": TAGS}
    vol = client.volumes.create(body)["volume"]["id"]
    refused(409, lambda: client.volumes.create(body))
    act = client.volume_actions.post_by_id
    done(client, act(vol, {"type": "attach", "droplet_id": made[0], "region": "nyc3"})["action"]["id"])
    refused(409, lambda: client.volumes.delete(vol))
    assert client.droplets.get(made[0])["droplet"]["volume_ids"] == [vol]
    done(client, act(vol, {"type": "resize", "size_gigabytes": 20, "region": "nyc3"})["action"]["id"])
    done(client, act(vol, {"type": "detach", "droplet_id": made[0], "region": "nyc3"})["action"]["id"])
    assert client.volumes.list(name="us-data", region="nyc3")["volumes"][0]["size_gigabytes"] == 20
    client.volumes.delete(vol)


def reserved_ip(client, made):
    ip = client.reserved_ips.create({"region": "nyc3"})["reserved_ip"]["ip"]
    act = client.reserved_ips_actions.post
    done(client, act(ip, {"type": "assign", "droplet_id": made[0]})["action"]["id"])
    assert client.reserved_ips.get(ip)["reserved_ip"]["droplet"]["id"] == made[0]
    done(client, act(ip, {"type": "unassign"})["action"]["id"])
    assert client.reserved_ips.list()["reserved_ips"][0]["droplet"] is None
    client.reserved_ips.delete(ip)


def domain(client):
    client.domains.create({"name": "example.com", "ip_address": "198.51.100.1"})
    refused(422, lambda: client.domains.create({"name": "example.com"}))
    made = client.domains.create_record(
        "example.com", {"type": "A", "name": "api", "data": "198.51.100.2", "ttl": 60}
    )["domain_record"]
    client.domains.update_record("example.com", made["id"], {"type": "A", "name": "api", "data": "198.51.100.3"})
    client.domains.patch_record("example.com", made["id"], {"type": "A", "ttl": 30})
    got = client.domains.list_records("example.com", name="api.example.com", type="A")["domain_records"]
    assert [(one["data"], one["ttl"]) for one in got] == [("198.51.100.3", 30)], got
    assert client.domains.get_record("example.com", made["id"])["domain_record"]["name"] == "api"
    client.domains.delete_record("example.com", made["id"])
    assert len(client.domains.list_records("example.com")["domain_records"]) == 4
    assert client.domains.get("example.com")["domain"]["ttl"] == 1800
    client.domains.delete("example.com")


def database(client, net):
    wanted = {
        "name": "us-pg",
        "engine": "pg",
        "version": "17",
        "region": "nyc3",
        "size": "db-s-1vcpu-2gb",
        "num_nodes": 1,
        "private_network_uuid": net,
        "tags": TAGS,
    }
    db = client.databases.create_cluster(wanted)["database"]["id"]
    replica = {"name": "us-pg-ro", "region": "nyc3", "size": "db-s-1vcpu-2gb", "private_network_uuid": net}
    refused(412, lambda: client.databases.create_replica(db, replica))
    until("cluster online", lambda: client.databases.get_cluster(db)["database"]["status"] == "online")
    assert client.databases.create_replica(db, replica)["replica"]["status"] == "forking"
    until("replica online", lambda: client.databases.get_replica(db, "us-pg-ro")["replica"]["status"] == "online")
    assert len(client.databases.list_replicas(db)["replicas"]) == 1
    client.databases.update_cluster_size(db, {"size": "db-s-2vcpu-4gb", "num_nodes": 2})
    until("resized", lambda: client.databases.get_cluster(db)["database"]["size"] == "db-s-2vcpu-4gb")
    client.databases.update_firewall_rules(db, {"rules": [{"type": "ip_addr", "value": "192.0.2.0/24"}]})
    rules = client.databases.list_firewall_rules(db)["rules"]
    assert [(one["type"], one["value"], one["cluster_uuid"]) for one in rules] == [("ip_addr", "192.0.2.0/24", db)]
    refused(422, lambda: client.databases.update_firewall_rules(db, {"rules": [{"type": "tag", "value": "nobody"}]}))
    client.databases.update_firewall_rules(db, {"rules": []})
    assert client.databases.list_firewall_rules(db)["rules"] == []
    client.databases.promote_replica(db, "us-pg-ro")
    assert client.databases.list_replicas(db)["replicas"] == []
    clusters = {one["name"]: one["id"] for one in client.databases.list_clusters()["databases"]}
    assert set(clusters) == {"us-pg", "us-pg-ro"}, clusters
    assert len(client.databases.list_clusters(tag_name="ha:ws:shop")["databases"]) == 1
    for one in clusters.values():
        client.databases.destroy_cluster(one)


def main(endpoint, token):
    # The client's own policy sends a token by https only; this one sends the same header.
    policy = HeadersPolicy({"Authorization": f"Bearer {token}"})
    client = Client(token=token, endpoint=endpoint, authentication_policy=policy, retry_total=0)
    catalog(client)
    key = client.ssh_keys.create({"name": "provisioning-key", "public_key": PUBLIC_KEY})["ssh_key"]
    refused(422, lambda: client.ssh_keys.create({"name": "other", "public_key": PUBLIC_KEY}))
    client.ssh_keys.update(key["fingerprint"], {"name": "provisioning"})
    assert client.ssh_keys.get(key["id"])["ssh_key"]["name"] == "provisioning"
    net = vpc(client)
    made = droplets(client, net, key)
    tags(client, made)
    lb = balancer(client, net, made)
    firewall(client, made)
    volume(client, made)
    reserved_ip(client, made)
    domain(client)
    database(client, net)

    members = client.vpcs.list_members(net)["members"]
    assert len(members) == 4, members
    refused(403, lambda: client.vpcs.delete(net))
    client.load_balancers.delete(lb)
    client.droplets.destroy(made[0])
    client.droplets.destroy_by_tag(tag_name="ha:ws:shop")
    client.vpcs.delete(net)
    client.ssh_keys.delete(key["id"])
    refused(404, lambda: client.droplets.get(made[0]))
    left = {
        "droplets": client.droplets.list()["droplets"],
        "load_balancers": client.load_balancers.list()["load_balancers"],
        "firewalls": client.firewalls.list()["firewalls"],
        "volumes": client.volumes.list()["volumes"],
        "reserved_ips": client.reserved_ips.list()["reserved_ips"],
        "domains": client.domains.list()["domains"],
        "databases": client.databases.list_clusters()["databases"],
        "ssh_keys": client.ssh_keys.list()["ssh_keys"],
    }
    assert not any(left.values()), left
    assert [one["name"] for one in client.vpcs.list()["vpcs"]] == ["first"]
    print("pydo: every kind created, listed, changed and deleted")


if __name__ == "__main__":
    main(*sys.argv[1:])
