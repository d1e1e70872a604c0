#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_set
short_description: Write a directory and several small files in one step
description:
  - Does in one step what otherwise takes a task for the directory and one for each file. A task costs the same whatever it does.
  - Each file is replaced as a whole, and only if its content or mode differs.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The content of O(secrets) is never shown.
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  directory:
    description: The directory of all files. It and its parents are made if they are missing.
    type: path
    required: true
  directory_mode:
    description: Mode of the directory, in octal.
    type: str
    default: "0755"
  files:
    description: Files that anyone may see in a diff.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name below O(directory).
        type: str
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      mode:
        description: Mode in octal.
        type: str
        default: "0644"
  secrets:
    description: Files whose content is shown nowhere.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name below O(directory).
        type: str
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      mode:
        description: Mode in octal.
        type: str
        default: "0600"
seealso:
  - module: ansible.builtin.copy
"""

EXAMPLES = r"""
- name: Write what the agent starts from
  peersys.pki.file_set:
    directory: /etc/peersys
    files:
      - name: node.yaml
        content: "{{ lookup('ansible.builtin.template', 'node.yaml.j2') }}"
    secrets:
      - name: passphrase
        content: "{{ node_passphrase }}"
"""

RETURN = r"""
written:
  description: Names of the files that were written.
  returned: always
  type: list
  elements: str
  sample: [node.yaml]
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._file_set import FileSet, WantedFile


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "directory_mode": {"type": "str", "default": "0755"},
            "files": file_list("0644", secret=False),
            "secrets": file_list("0600", secret=True),
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        wanted = [
            WantedFile(
                os.path.join(params["directory"], entry["name"]),
                entry["content"].encode(),
                int(entry["mode"], 8),
                secret=secret,
            )
            for entries, secret in ((params["files"], False), (params["secrets"], True))
            for entry in entries
        ]
        file_set = FileSet(params["directory"], int(params["directory_mode"], 8), wanted)
        result = file_set.write(dry_run=module.check_mode)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{params['directory']}: {error}")
    module.exit_json(**result)


def file_list(mode: str, *, secret: bool) -> dict[str, t.Any]:
    """Return the option that lists files of one sort."""
    fields: dict[str, t.Any] = {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True, "no_log": secret},
        "mode": {"type": "str", "default": mode},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": fields, "no_log": False}


if __name__ == "__main__":
    main()
