# SPDX-License-Identifier: Apache-2.0
"""Says hello from inside a VM."""

import os
import platform

print(f"Hello from Python {platform.python_version()} on {os.uname().nodename}")
