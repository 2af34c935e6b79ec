#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/nu.sh" "$s" "$@"'

# The servers of this workspace as a dynamic inventory of Ansible, asked for anew each time:
#
#   ansible-inventory -i scripts/ansible-inventory.nu --graph
#   ansible-playbook -i scripts/ansible-inventory.nu --limit db_servers site.yml
#
# Ansible calls it with --list. Its groups and variables are those of `ha inventory --ansible`; add yours here.

const HERE = path self .

# Print the inventory as Ansible wants it.
@example "what Ansible reads" { ./scripts/ansible-inventory.nu --list }
@example "one server's variables" { ./scripts/ansible-inventory.nu --host us-db-1 }
def main [
    --list           # Groups, hosts and all their variables; the same without it.
    --host: string   # Only this server's variables; Ansible asks for them where _meta is missing, so never.
]: nothing -> string {
    cd ($HERE | path dirname)
    let inventory = ha inventory --ansible
    if $host == null {
        return ($inventory | to json)
    }
    let variables = $inventory._meta.hostvars | get --optional $host
    if $variables == null {
        let known = $inventory._meta.hostvars | columns | str join ", "
        error make --unspanned {
            msg: $"no server is called ($host)"
            code: "ha::server::unknown"
            help: (if ($known | is-empty) { "run: ha provision" } else { $"one of: ($known)" })
        }
    }
    $variables | to json
}
