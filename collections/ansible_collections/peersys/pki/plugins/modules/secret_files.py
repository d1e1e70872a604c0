#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_files
short_description: Make files of variables with random secrets, once
description:
  - Each file is YAML with one random text of 256 bits per variable, for Ansible Vault to encrypt.
  - A file that is there stays as it is, encrypted or not. It fails if a variable is missing in one that isn't encrypted.
  - Only the owner may read the files. No secret is returned or shown.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  directory:
    description: The directory below which the files are, as an inventory's.
    type: path
    required: true
  files:
    description: For each path below O(directory) the names of the variables that the file is to hold. Directories are made.
    type: dict
    required: true
seealso:
  - plugin: peersys.pki.missing_secrets
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make the secrets of a node
  peersys.pki.secret_files:
    directory: "{{ inventory_dir }}"
    files:
      host_vars/ca1/vault.yml: [node_passphrase]
  delegate_to: localhost
"""

RETURN = r"""
written:
  description: The files that were made.
  returned: success
  type: list
  elements: str
  sample: [host_vars/ca1/vault.yml]
kept:
  description: The files that were there.
  returned: success
  type: list
  elements: str
"""

import os
import secrets
import typing as t

from ansible.module_utils.basic import AnsibleModule

_HEAD = "---\n# Made at random, once. Encrypt it: ansible-vault encrypt <this file>\n"
_VAULT = "$ANSIBLE_VAULT;"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "files": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        written, kept = make_files(
            module.params["directory"], module.params["files"], dry_run=module.check_mode
        )
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(written), written=written, kept=kept)


def make_files(
    directory: str, files: t.Mapping[str, t.Sequence[str]], *, dry_run: bool
) -> tuple[list[str], list[str]]:
    """Make the files that are missing; return the names of those and of the others.

    Raises ValueError for a file that is there without one of its variables, before any is made.
    """
    there = [name for name in files if os.path.lexists(os.path.join(directory, name))]
    for name in there:
        _check(os.path.join(directory, name), files[name])
    missing = [name for name in files if name not in there]
    for name in missing if not dry_run else ():
        _write(os.path.join(directory, name), files[name])
    return missing, there


def _check(path: str, variables: t.Sequence[str]) -> None:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    defined = {line.split(":")[0] for line in text.splitlines()}
    lacking = [name for name in variables if name not in defined]
    if lacking and not text.startswith(_VAULT):
        raise ValueError(f"{path} is there without {', '.join(lacking)}: add it there")


def _write(path: str, variables: t.Sequence[str]) -> None:
    """Write the file as a whole or not at all, and never over another one."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lines = [f'{name}: "{secrets.token_hex(32)}"\n' for name in variables]
    unfinished = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_HEAD + "".join(lines))
        os.link(unfinished, path)
    finally:
        os.unlink(unfinished)


if __name__ == "__main__":
    main()
