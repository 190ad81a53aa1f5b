"""README.md beside the client of a federation: what an app's team does with the folder."""

from collections.abc import Sequence

from fedtiny_tff.devices.device_plan import PlannedBlock
from tflite_export.artifacts import ExportRequest
from tflite_export.device_training.device_bundle import DeviceBundle
from tflite_export.devices import device_kotlin
from tflite_export.texts.markdown_text import escaped

_WHAT = {
  "set_weights": "takes a round's model in its sparse form; the optimiser begins anew",
  "get_weights": "gives the model as it is sent back; its input says nothing",
  "train": "one step on one batch",
  "evaluate": "loss and hits of a batch, summed",
  "bn_statistics": "sums over the inputs of every batch normalisation",
  "score": "the same as `evaluate` under batch-norm statistics that are given",
}
_TOP_GRADIENTS = "top_gradients_"


def readme(request: ExportRequest, bundle: DeviceBundle) -> str:
  """Writes the text.

  Args:
    request: Where the model comes from.
    bundle: File and plan.
  """
  plan, model = bundle.plan, bundle.plan.model
  down = sum(layout.size_bytes for layout in plan.round_layouts(None).values())
  up = sum(layout.size_bytes for layout in plan.update_layouts(None).values())
  dense = 4 * (model.prunable + model.dense + 2 * model.batch_norm)
  rows = "\n".join(
    f"| `{name}({', '.join(f'{n}: {layout}' for n, layout in each.inputs.items())})` "
    f"| {', '.join(f'{n}: {layout}' for n, layout in each.outputs.items())} "
    f"| {_meaning(name, plan.blocks)} |"
    for name, each in device_kotlin.read_signatures(bundle.content).items()
  )
  return f"""\
# {escaped(model.name)}: the client of a federation

{escaped(request.provenance.method)} Licence: {escaped(request.provenance.licence)}. Made by
FedTiny-TFF {escaped(request.provenance.version)}.

| file | for |
| --- | --- |
| `model.tflite` | the model with its training, {len(bundle.content):,} bytes, TFLite's builtin operators alone |
| `client_plan.json` | {plan.rounds} rounds, batches of {plan.batch_size}, epochs a round: {plan.local_epochs}; `client_plan.schema.json` is its JSON schema |
| `ClientPlan.kt` | the same for Kotlin: signatures, sizes, digests; belongs to this `model.tflite` |
| `DeviceRuntime.kt`, `Messages.kt`, `Positions.kt`, `Philox.kt`, `Json.kt` | from a message to its answer |
| `DeviceClient.kt`, `HttpExchange.kt` | from a task to its answers, over HTTP |
| `DeviceWorker.kt` | WorkManager: when a phone takes part |
| `preprocessing.json`, `labels.txt`, `preprocessing.tflite` | where they are there: how raw examples become inputs, and what labels mean |

A round's model is {down:,} bytes down and {up:,} up; the dense model has {dense:,}. A block
whose mask is adjusted adds its statistics.

## Into an app

1. Copy the `.kt` files to your sources, and change their `package` line. Put `model.tflite`
   into `assets` and keep it uncompressed (`androidResources {{ noCompress += "tflite" }}`).
2. Add `com.google.ai.edge.litert:litert` (LiteRT's Interpreter API) and
   `androidx.work:work-runtime-ktx`. No Flex delegate is needed.
3. Write an `Examples` of what the device has, preprocessed as `preprocessing.json` says: one
   for training, and one that is held out, which is never trained on.
4. Subclass `DeviceWorker`, map the model file there, and open an `HttpExchange` with the
   gateway's address, this client's number and its secret. Call `DeviceWorker.schedule` when
   the user has agreed to take part.
5. Ship an update when the server's plan changes: messages of another plan are refused.

## Permissions and threads

- `android.permission.INTERNET`, and `ACCESS_NETWORK_STATE` for WorkManager's constraints.
  Nothing else: the examples are the app's own.
- `DeviceWorker` runs on a background thread while the phone charges, is idle, and has an
  unmetered network. WorkManager stops it after ten minutes at the latest; what has no answer
  then is computed at its next start. For rounds that take longer run it as a foreground
  service (`setForeground`), which needs `FOREGROUND_SERVICE` and a type.
- `DeviceRuntime` is not thread-safe: one a worker. Closing it frees LiteRT's memory.
- Keep the secret in the Android Keystore or `EncryptedSharedPreferences`, never in the APK.

## Functions of `model.tflite`

Rows that are filled up have the label -1 and count nowhere.

| function | gives | what it is |
| --- | --- | --- |
{rows}

## What is not here

Nothing attests that a phone or its app is genuine, nothing chooses who takes part and when,
and messages are neither hidden from the server nor noised. `docs/devices.md` names what to
use for these.
"""


def _meaning(name: str, blocks: Sequence[PlannedBlock]) -> str:
  if name in _WHAT:
    return _WHAT[name]
  layers = blocks[int(name.removeprefix(_TOP_GRADIENTS))].layers
  return f"largest gradients at pruned weights of {', '.join(map(escaped, layers))}"
