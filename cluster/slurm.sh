#!/usr/bin/env bash
# A sweep on Slurm: a Ray head on the first node, a worker on each of the others, then the sweep, with what follows.
#
#   sbatch --nodes=4 --gpus-per-node=4 cluster/slurm.sh -P task=h4 -P storage=$SCRATCH/polymath
#
# Run it in the project's folder, on a file system that the nodes share, as your home folder is, after `make setup`
# there, with MLFLOW_TRACKING_URI set to a server that the nodes reach. Ray's ports are open to the machines of the
# Slurm cluster; a token, made for this job and readable by you alone, keeps its other users out. A job that is out of
# time, or preempted, stops cleanly; submitted again, it does what is left.
#SBATCH --job-name=polymath
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --no-kill
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?submit this with sbatch}"
export PATH="$PWD/.venv/bin:$PATH"

RAY_AUTH_TOKEN_PATH=$(mktemp "$HOME/.ray-token-XXXXXXXX") # mode 0600; every node sees it
export RAY_AUTH_TOKEN_PATH RAY_AUTH_MODE=token
python -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH"

set -m # each job in the background is a process group, which is stopped as a whole
nodes=()
stop() {
    for node in "${nodes[@]}"; do kill -TERM -- "-$node" 2> /dev/null || true; done
    wait
    rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap stop EXIT

mapfile -t names < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on() { srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" "${@:2}"; }
head=$(on "${names[0]}" hostname --ip-address | cut -d ' ' -f 1)
address=$head:$((20000 + SLURM_JOB_ID % 10000)) # another job's Ray on the same node has another port

on "${names[0]}" ray start --head --block --node-ip-address="$head" --port="${address##*:}" \
    --temp-dir="/tmp/ray-$SLURM_JOB_ID" --include-dashboard=false --disable-usage-stats &
nodes+=($!)
until ray status --address "$address" > /dev/null 2>&1; do
    kill -0 "${nodes[0]}" 2> /dev/null || { echo "error: Ray's head did not start on ${names[0]}" >&2; exit 1; }
    sleep 1
done
for name in "${names[@]:1}"; do
    on "$name" ray start --block --address="$address" &
    nodes+=($!)
done
python - "$address" "${#names[@]}" << 'END' # waits for the workers, and goes on without those that do not come
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
for _ in range(120):
    joined = sum(node["Alive"] for node in ray.nodes())
    if joined == int(sys.argv[2]):
        break
    time.sleep(1)
print(f"{joined} of {sys.argv[2]} nodes have joined", flush=True)
END

mlflow run . -e sweep --env-manager local -P ray_address="$address" "$@" &
sweep=$!
trap 'kill -TERM -- "-$sweep" 2> /dev/null || true' TERM INT
status=0
wait "$sweep" || status=$?
while kill -0 -- "-$sweep" 2> /dev/null; do sleep 1; done # `mlflow run` may end before the sweep that it started
exit "$status"
