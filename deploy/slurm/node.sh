#!/bin/bash
# One node of the allocation, started by campaign.sbatch: its label, its Ray, and on the first node
# the driver. A node with other boards takes no part. Untested on Slurm, as campaign.sbatch says.
set -euo pipefail

label=$(python -m workers.label --expect "$CAMPAIGN_BOARD") || exit 0 # it said why; the others measure

export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# No --min-nodes: whoever comes later, or never, holds nobody up.
code=0
ray symmetric-run --address "$CAMPAIGN_RAY_ADDRESS" --labels "$label" --dashboard-host 127.0.0.1 \
    --object-store-memory 268435456 --disable-usage-stats \
    -- bash deploy/slurm/driver.sh "$@" || code=$?
if ((SLURM_NODEID == 0)); then
    exit "$code" # the driver's own: 0 done, 4 finished with failed tasks, 130 interrupted
fi
