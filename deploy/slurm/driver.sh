#!/bin/bash
# The driver, on the first node of the allocation, started by node.sh. The arguments are overrides of
# `campaign run`. Untested on Slurm, as campaign.sbatch says.
set -euo pipefail

echo "$$" >"$CAMPAIGN_JOB/driver.pid" # exec keeps the number
exec campaign run "$@" cluster=ray "cluster.address='$CAMPAIGN_RAY_ADDRESS'" \
    "cluster.boards={$CAMPAIGN_BOARD: $CAMPAIGN_BOARDS}" "store.url='$CAMPAIGN_STORE_URL'"
