"""A user's own model is admitted as it is, or refused in one line."""

import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry, user_model
from tests.fedtiny_tff.models import support

layers = tf.keras.layers
SHAPE = (6, 5, 1)


def _sequential(*last):
  return tf.keras.Sequential(
    [
      layers.Input(SHAPE),
      layers.Conv2D(2, 3, activation="relu"),
      layers.BatchNormalization(scale=False),
      layers.Conv2D(3, 3, use_bias=False),
      layers.BatchNormalization(center=False),
      layers.Flatten(),
      layers.Dropout(0.5),
      *(last or [layers.Dense(4)]),
    ]
  )


def _branched(size=(None, None)):
  inputs = layers.Input((*size, 1))
  x = layers.Conv2D(3, 3, padding="same")(inputs)
  x = layers.Add()([x, layers.Conv2D(3, 1)(x)])
  x = layers.LayerNormalization()(x)
  return tf.keras.Model(inputs, layers.Dense(4)(layers.GlobalMaxPooling2D()(x)))


def _recurrent():
  inputs = layers.Input(SHAPE)
  x = layers.TimeDistributed(layers.Dense(3))(layers.Reshape((6, 5))(inputs))
  x = layers.Bidirectional(layers.GRU(2))(x)
  return tf.keras.Model(inputs, layers.Dense(4)(layers.PReLU()(x)))


def _saved(tmp_path, model):
  path = tmp_path / "net.keras"
  model.save(path)
  return str(path)


def _load(name, shape=SHAPE, classes=4, width=1.0):
  return registry.get_model(name, shape, classes, width)


def _refusal(name, **changes):
  with pytest.raises(InputError) as raised:
    _load(name, **changes)
  message = str(raised.value)
  assert "\n" not in message
  assert name in message
  return message


def _outputs(found, images, seed=0):
  model = found.build()
  found.set_initial_weights(model, seed)
  return model(images, training=False).numpy()


def _drawn(name, seed):
  """Returns the initial values of a model's variables."""
  found = _load(name)
  model = found.build()
  found.set_initial_weights(model, seed)
  return model.get_weights()


@pytest.fixture(name="images", scope="module")
def fixture_images():
  return np.random.default_rng(0).normal(size=(7, *SHAPE)).astype(np.float32)


def _trained(model):
  """Gives every variable a value as after training."""
  generator = np.random.default_rng(1)
  model.set_weights(
    [
      generator.uniform(0.2, 0.9, w.shape).astype(np.float32)
      for w in model.get_weights()
    ]
  )
  return model


# ---------------------------------------------------------------- a file


@pytest.mark.parametrize(
  "make", [_sequential, _branched, lambda: _branched((6, 5)), _recurrent]
)
def test_a_file_starts_where_it_was_saved(tmp_path, images, make):
  model = _trained(make())
  found = _load(_saved(tmp_path, model))
  wanted = model(images, training=False).numpy()
  np.testing.assert_allclose(_outputs(found, images), wanted, rtol=1e-6)
  # Through the masks' adapter too, whatever the seed.
  weights = tfmot_masking.initial_weights(found, 9)
  masked = tfmot_masking.MaskedModel(found)
  masked.assign(weights, tf.ones([found.spec.size], tf.bool))
  given = tfmot_masking.strip(masked)(images, training=False)
  np.testing.assert_allclose(given, wanted, rtol=1e-6)


def test_every_convolution_but_the_first_and_every_dense_layer_is_pruned(tmp_path):
  model = _sequential()
  found = _load(_saved(tmp_path, model))
  second, head = model.layers[2].name, model.layers[-1].name
  assert support.sizes(found) == {second: 3 * 3 * 2 * 3, head: 2 * 1 * 3 * 4}
  assert support.blocks(found) == ((second,), (head,))
  assert found.task is tasks.CLASSIFY


def test_the_same_layers_at_every_build(tmp_path):
  found = _load(_saved(tmp_path, _sequential()))
  first, second = found.build(), found.build()
  assert [x.name for x in first.layers] == [x.name for x in second.layers]
  assert not {id(w) for w in first.weights} & {id(w) for w in second.weights}


def test_open_dimensions_are_fixed(tmp_path):
  found = _load(_saved(tmp_path, _branched()))
  assert found.build().input_shape == (None, *SHAPE)


@pytest.mark.parametrize(
  "last",
  [
    [layers.Dense(4, activation="softmax")],
    [layers.Dense(4), layers.Softmax()],
    [layers.Dense(4), layers.Activation("softmax")],
    [layers.Dense(4, activation=layers.Softmax())],
  ],
)
def test_a_softmax_at_the_end_is_taken_off(tmp_path, images, last):
  model = _trained(_sequential(*last))
  logits = _outputs(_load(_saved(tmp_path, model)), images)
  assert logits.sum(axis=1) != pytest.approx(1)
  np.testing.assert_allclose(
    tf.nn.softmax(logits), model(images, training=False), rtol=1e-5
  )


def test_a_softmax_within_stays(tmp_path, images):
  model = _trained(_sequential(layers.Dense(5, activation="softmax"), layers.Dense(4)))
  found = _load(_saved(tmp_path, model))
  np.testing.assert_allclose(
    _outputs(found, images), model(images, training=False), rtol=1e-6
  )


@pytest.mark.parametrize(
  "suffix", [".h5", ".hdf5", ".pkl", ".pickle", ".pb", ".tflite", ""]
)
def test_other_formats_are_refused_unread(tmp_path, suffix):
  path = tmp_path / f"net{suffix}"
  if suffix:
    path.write_bytes(b"anything")
  else:
    path.mkdir()
  assert "save it with model.save('FILE.keras')" in _refusal(str(path))


def test_a_folder_called_keras_is_refused(tmp_path):
  (tmp_path / "net.keras").mkdir()
  assert "only the Keras format is read" in _refusal(str(tmp_path / "net.keras"))


def test_a_width_is_refused(tmp_path):
  message = _refusal(_saved(tmp_path, _sequential()), width=0.5)
  assert "width 0.5 cannot be applied" in message


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    (
      {"shape": (6, 6, 1)},
      "takes inputs of shape (6, 5, 1), the dataset's are (6, 6, 1)",
    ),
    ({"shape": (30,)}, "takes inputs of shape (6, 5, 1), the dataset's are (30,)"),
    (
      {"classes": 5},
      "its output is (None, 4), needed is (None, 5), one for each class",
    ),
    ({"classes": None}, "needs at least 1 class, got None"),
  ],
)
def test_data_that_do_not_fit_are_refused(tmp_path, changes, said):
  assert said in _refusal(_saved(tmp_path, _sequential()), **changes)


def test_an_image_too_small_for_the_kernels_is_refused(tmp_path):
  inputs = layers.Input((None, None, 1))
  x = layers.GlobalMaxPooling2D()(layers.Conv2D(2, 7)(inputs))
  path = _saved(tmp_path, tf.keras.Model(inputs, layers.Dense(4)(x)))
  assert "ValueError" in _refusal(path)
  assert _load(path, shape=(7, 7, 1)).build().input_shape == (None, 7, 7, 1)


def test_nothing_to_prune_is_refused(tmp_path):
  inputs = layers.Input(SHAPE)
  x = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(inputs))
  path = _saved(tmp_path, tf.keras.Model(inputs, x))
  assert "has nothing to prune: it needs a Dense layer" in _refusal(path)


def test_a_sigmoid_at_the_end_is_refused(tmp_path):
  path = _saved(
    tmp_path, _sequential(layers.Dense(4, activation="sigmoid", name="head"))
  )
  assert "layer 'head' (Dense) ends it in sigmoid" in _refusal(path)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
  model = _sequential(layers.Dense(4, name="head"))
  model.get_layer("head").bias.assign([0.0, np.nan, 0.0, 0.0])
  path = _saved(tmp_path, model)
  assert "layer 'head' holds NaN or infinite weights" in _refusal(path)


# ---------------------------------------------------------------- an entry point


@pytest.fixture(name="module")
def fixture_module(tmp_path, monkeypatch):
  """Writes a module into the current directory and returns its name."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])

  def write(text, name="own_nets"):
    source = f"import tensorflow as tf\nL = tf.keras.layers\n\n{textwrap.dedent(text)}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name

  yield write
  sys.modules.pop("own_nets", None)


_NET = """
  def net(input_shape, num_classes):
    return tf.keras.Sequential([
      L.Input(input_shape), L.Flatten(), L.Dense(8, activation="relu"),
      L.Embedding(3, 2), L.Flatten(), L.Dense(num_classes),
    ])
"""


def test_a_function_is_called_with_shape_and_classes(module):
  found = _load(f"{module(_NET)}:net")
  assert [x.shape for x in found.spec.layers] == [(30, 8), (16, 4)]
  assert found.build().input_shape == (None, *SHAPE)


def test_the_seed_alone_decides_the_weights_of_a_function(module):
  name = f"{module(_NET)}:net"
  layers.Dense(1)  # Takes a name and a random number.
  first, again, other = (_drawn(name, seed) for seed in (3, 3, 4))
  for one, same in zip(first, again, strict=True):
    np.testing.assert_array_equal(one, same)
  # All but the two biases, the embedding too.
  assert sum((a != b).any() for a, b in zip(first, other, strict=True)) == 3


def test_made_up_names_do_not_depend_on_what_was_built_before(module):
  name = f"{module(_NET)}:net"
  layers.Dense(1)(tf.zeros((1, 1)))
  assert [x.name for x in _load(name).spec.layers] == ["dense", "dense_1"]


def test_a_definition_brings_its_blocks_and_its_task(module):
  name = module("""
    from fedtiny_tff import tasks
    from fedtiny_tff.model_structure.definition import define_model

    def net(input_shape, num_classes):
      def build():
        inputs = L.Input(input_shape)
        x = L.Dense(6, name="a")(L.Flatten()(inputs))
        x = L.Dense(5, name="b")(x)
        return tf.keras.Model(inputs, L.Dense(30, name="c")(x))

      return define_model("mine", build, (("a", "b"), ("c",)), tasks.RECONSTRUCT)
  """)
  found = _load(f"{name}:net", classes=None)
  assert support.blocks(found) == (("a", "b"), ("c",))
  assert found.task is tasks.RECONSTRUCT


def test_blocks_that_are_none_are_refused(module):
  name = module("""
    from fedtiny_tff.model_structure.definition import define_model

    def net(input_shape, num_classes):
      build = lambda: tf.keras.Sequential([L.Input(input_shape), L.Flatten(), L.Dense(4)])
      return define_model("mine", build, (("elsewhere",),))
  """)
  assert "blocks of model 'mine' must name its prunable layers" in _refusal(
    f"{name}:net"
  )


def test_names_that_change_from_build_to_build_are_refused(module):
  name = module("""
    from fedtiny_tff.model_structure.definition import define_model
    count = [0]

    def net(input_shape, num_classes):
      def build():
        count[0] += 1
        dense = L.Dense(4, name=f"dense{count[0]}")
        return tf.keras.Sequential([L.Input(input_shape), L.Flatten(), dense])

      return define_model("mine", build)
  """)
  assert "layer 'dense1' of its blocks is not the same" in _refusal(f"{name}:net")


def test_a_layer_that_tfmot_cannot_wrap_is_refused(module):
  name = module("""
    import dataclasses
    from fedtiny_tff.sparsity import spec
    from fedtiny_tff.model_structure.definition import define_model

    def net(input_shape, num_classes):
      def build():
        inputs = L.Input(input_shape)
        x = L.EinsumDense("ab,bc->ac", 4, name="odd")(L.Flatten()(inputs))
        return tf.keras.Model(inputs, L.Dense(4, name="head")(x))

      made = define_model("mine", build)
      layers = (spec.LayerSpec("odd", (30, 4)),)
      return dataclasses.replace(made, spec=spec.PrunableSpec(layers, ((0,),)))
  """)
  assert "Please initialize `Prune`" in _refusal(f"{name}:net")


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("def other(): pass", "has no function or class 'net'"),
    ("net = 3", "has no function or class 'net'"),
    ("def net(shape, classes): return 3", "returned int; return a tf.keras.Model"),
    ("def net(shape): pass", "TypeError: net() takes 1 positional argument"),
    ("def net(shape, classes): return 1 / 0", "ZeroDivisionError: division by zero"),
    ("raise OSError('no\\nfile')", "OSError: no file"),
    ("import not_installed_here", "ModuleNotFoundError"),
  ],
)
def test_what_an_entry_point_does_wrong_is_said(module, text, said):
  assert said in _refusal(f"{module(text)}:net")


def test_a_missing_module_is_named():
  assert "there is no module no_such_module, neither" in _refusal(
    "no_such_module.nets:net"
  )


@pytest.mark.parametrize(
  ("name", "own"),
  [
    ("a/b.keras", True), ("pack.age:net", True), ("m:f", True), ("net.h5", True),
    ("resnet8", False), ("vgg", False), ("a b:c", False), ("m:", False), ("", False),
    ("m:f.g", False),
  ],
)  # fmt: skip
def test_which_names_are_the_users(name, own):
  assert user_model.is_own(name) == registry.is_own(name) == own


def test_a_definition_by_default_draws_its_kernels():
  found = support.get_model("digits_cnn", (8, 8, 1), 10)
  assert found.set_initial_weights is definition.initialize
