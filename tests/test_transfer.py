"""Transfer: new heads, frozen parts, runs that begin with a trained network."""

import json
import re
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from rot180 import Network, Recipe, branches, chain, load, residual, sequence, train, transfer
from rot180.cli import main
from rot180.data import Augmentation, Dataset, Sets
from rot180.errors import GraphError, RunError, SettingError
from rot180.graph import auxiliary
from rot180.layers import (
    BatchNormalization,
    Convolution,
    Dense,
    GlobalAveragePooling,
    RadialBasisLoss,
    RadialBasisOutput,
    ReLU,
    Reshape,
    SoftmaxCrossEntropy,
)
from rot180.layers.radial_basis_output import random_codes
from rot180.models import resnet_small
from rot180.training import Run
from rot180.training.features import features
from rot180.training.run import Settings
from rot180.transfer import Parts, adapted, cut, head, start, wants_pixels, with_head, with_pixels

NAMES = ("ape", "bee", "cat")
GRAPH = sequence(
    (3, 8, 8),
    conv=Convolution(4, 3, padding="same", bias=False),
    bn=BatchNormalization(),
    relu=ReLU(),
    depthwise=Convolution(4, 3, stride=2, padding=((0, 1), (0, 1)), groups=4),  # one-sided, as EfficientNet-Lite's
    relu2=ReLU(),
    block=residual(chain(conv=Convolution(4, 3, padding=1), bn=BatchNormalization())),
    pool=GlobalAveragePooling(),
    F1=Dense(6),
    relu3=ReLU(),
    F2=Dense(5),
    loss=SoftmaxCrossEntropy(),
)
ENGINES = "reference", "lanes"


@cache
def learned():
    """Parameters and statistics after some training."""
    made = Network(GRAPH, seed=3, engine="reference")
    fed = replace(blobs(), images=blobs().images / np.float32(255), class_names=tuple("vwxyz"))
    for _ in train(
        made, fed, Recipe(epochs=20, batch=8, learning_rate=0.05, validation=0, augmentation=Augmentation())
    ):
        pass
    return made.parameters, made.statistics


def network(engine="reference", **settings):
    """It tells blobs of pixels 0..1 apart."""
    made = Network(GRAPH, engine=engine, **settings)
    made.parameters[:], made.statistics[:] = learned()
    return made


def blobs(count=24, seed=1, shape=(3, 8, 8)):
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = chance.integers(0, 60, (count, *shape)).astype(np.uint8)
    images[np.arange(count), labels, 2:6, 2:6] += 180
    return Dataset(images, labels, NAMES, f"blobs{seed}", names=np.array([f"{k}.png" for k in range(count)]))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROT180_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


# --- heads -------------------------------------------------------------------------------------------------------


def test_the_head_is_the_last_layer_with_weights():
    assert head(GRAPH) == "F2"
    squeezed = sequence(
        (3, 8, 8), c=Convolution(7, 1), relu=ReLU(), pool=GlobalAveragePooling(), loss=SoftmaxCrossEntropy()
    )
    assert head(squeezed) == "c"  # SqueezeNet's, a convolution before the pooling
    assert with_head(squeezed, 2).classes == 2


def test_a_new_head_has_the_new_classes_and_everything_else_its_numbers():
    old = network()
    new = start(old, NAMES, seed=7)
    assert new.class_names == NAMES
    assert new.graph.classes == 3
    assert new["F2.w"].shape == (3, 6)
    for name in ("conv.w", "bn.gamma", "bn.running_mean", "depthwise.w", "block.bn.running_variance", "F1.b"):
        np.testing.assert_array_equal(new[name], old[name])
    np.testing.assert_array_equal(new["F2.w"], start(old, NAMES, seed=7)["F2.w"])
    assert (new["F2.w"] != start(old, NAMES, seed=8)["F2.w"]).any()


def test_a_head_of_as_many_classes_is_drawn_anew_as_well():
    old = network()
    assert (start(old, tuple("abcde"))["F2.w"] != old["F2.w"]).any()
    np.testing.assert_array_equal(start(old, tuple("abcde"), new_head=False)["F2.w"], old["F2.w"])


def test_a_shape_behind_the_head_follows_it():
    graph = sequence((3, 4, 4), c=Convolution(5, 4), flat=Reshape((5,)), loss=SoftmaxCrossEntropy())
    assert with_head(graph, 2)["flat"].layer == Reshape((2,))


def test_a_head_that_cannot_be_replaced_is_named():
    graph = sequence((1, 2, 2), F1=Dense(84), rbf=RadialBasisOutput(random_codes(10, 84)), loss=RadialBasisLoss())
    with pytest.raises(SettingError, match=r"scores come from RadialBasisOutput.*dense or convolutional layer"):
        head(graph)
    two = sequence((1, 2, 2), paths=residual(chain(a=Dense(3)), chain(b=Dense(3))), loss=SoftmaxCrossEntropy())
    with pytest.raises(SettingError, match=r"scores come from Add.*'paths.add'"):
        head(two)


def test_heads_on_the_side_are_left_out():
    graph = sequence(
        (1, 4, 4),
        conv=Convolution(3, 3),
        side=auxiliary(F=Dense(5)),
        F=Dense(5),
        loss=SoftmaxCrossEntropy(weights=(1, 0.3)),
    )
    new = adapted(graph, 2, None)
    assert [node.name for node in new] == ["conv", "F", "loss"]
    assert new.loss == SoftmaxCrossEntropy()


# --- pixels ------------------------------------------------------------------------------------------------------


def test_pixels_are_scaled_as_the_network_was_fed():
    assert not wants_pixels(GRAPH)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.float32)
    old = network()
    for pixels, mean, deviation in (
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("0..1", (0,) * 3, (1,) * 3),
        ("-1..1", (0.5,) * 3, (0.5,) * 3),
    ):
        new = start(old, tuple("abcde"), pixels=pixels, new_head=False)
        assert wants_pixels(new.graph)
        fed = (images / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(deviation, (3, 1, 1))
        np.testing.assert_allclose(new(images), old(fed.astype(np.float32)), rtol=1e-4, atol=1e-5)
    assert with_pixels(GRAPH, "as they are") is GRAPH
    with pytest.raises(SettingError, match=r"no scaling of pixels 'x': choose one of imagenet, 0\.\.1, -1\.\.1"):
        with_pixels(GRAPH, "x")
    with pytest.raises(SettingError, match="'imagenet' is for 3 channels, but the network's images have 1"):
        with_pixels(sequence((1, 4, 4), F=Dense(3), loss=SoftmaxCrossEntropy()), "imagenet")


# --- cutting -----------------------------------------------------------------------------------------------------


def nodes(graph):
    return [node.name for node in graph]


def test_what_a_node_is_computed_from_lies_below_it():
    value, lower, upper = cut(GRAPH, "block.conv")
    assert value == "relu2"
    assert nodes(lower)[:5] == ["conv", "bn", "relu", "depthwise", "relu2"]
    assert lower.output == "relu2"
    assert nodes(upper) == ["block.conv", "block.bn", "block.add", "pool", "F1", "relu3", "F2", "loss"]
    assert upper.input_shape == (4, 4, 4)
    assert upper["block.add"].inputs == ("block.bn", "image")


def test_a_vector_passes_as_a_map_of_one_pixel():
    value, _, upper = cut(GRAPH, "F2")
    assert (value, upper.input_shape, upper.classes) == ("relu3", (6, 1, 1), 5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("below", ["depthwise", "block.conv", "F1", "F2"])
def test_the_parts_together_are_the_network(below, engine):
    whole, images = network(engine=engine), blobs().images
    parts = Parts(whole, below)
    passed = np.concatenate(list(parts.features_of(images)))
    np.testing.assert_allclose(parts.upper(passed), whole(images), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("below", "sentence"),
    [
        ("nowhere", "there is no node 'nowhere'; there are conv, bn"),
        ("conv", "nothing below 'conv' learns, so that nothing would be frozen: name a later node, or image"),
        ("loss", "nothing from 'loss' on learns: name an earlier node, such as 'F2'"),
        (
            "block.add",
            r"2 values pass \(relu2, block.bn\), and only one may: choose one of bn, depthwise, block.conv, F1, F2",
        ),
    ],
)
def test_a_cut_that_is_not_possible_says_what_is(below, sentence):
    with pytest.raises(GraphError, match=sentence):
        cut(GRAPH, below)


def test_each_cut_that_is_offered_is_possible():
    for graph in (GRAPH, adapted(resnet_small(8), None, None)):
        for name in transfer._cuts(graph):
            lower, upper = cut(graph, name)[1:]
            assert set(nodes(lower)).isdisjoint(set(nodes(upper)) - {"loss"})


def test_inception_is_cut_before_a_block():
    paths = branches(a=Convolution(2, 1), b=chain(c=Convolution(2, 3, padding=1), d=ReLU()))
    graph = sequence((3, 4, 4), stem=Convolution(4, 1), block=paths, F=Dense(2), loss=SoftmaxCrossEntropy())
    assert cut(graph, "block.a")[0] == "stem"
    assert cut(graph, "F")[0] == "block.concatenate"


# --- learning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_frozen_stays_and_what_is_not_learns(engine):
    old = start(network(engine=engine), NAMES, pixels="0..1")
    before = old.parameters.copy(), old.statistics.copy()
    parts = Parts(old, "F1")
    recipe = Recipe(epochs=12, batch=8, learning_rate=0.1, validation=0, augmentation=Augmentation())
    for _ in train(parts.upper, parts.features(blobs()), recipe):
        pass
    new = parts.join()
    assert new is old
    np.testing.assert_array_equal(new.statistics, before[1])
    changed = {place.node for place in new.layout.places if (new.parameters != before[0])[place.slice].any()}
    assert changed == {"F1", "F2"}
    assert new.evaluate(blobs(seed=2)).error <= 0.1


def test_batch_normalization_that_is_not_frozen_learns_again():
    old = start(network(), NAMES)
    before = old.statistics.copy()
    for _ in train(old, blobs(), Recipe(epochs=1, batch=8, validation=0, augmentation=Augmentation())):
        pass
    assert (old.statistics != before).any()


# --- features that are kept --------------------------------------------------------------------------------------

VARIED = Augmentation(flip=True, shift=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_variants_are_what_so_many_epochs_would_have_seen(engine):
    parts, images = Parts(network(engine=engine), "F1"), blobs()
    kept = features(parts, images, VARIED, variants=2, seed=4)
    assert len(kept) == 48
    np.testing.assert_array_equal(kept.labels, np.tile(images.labels, 2))
    assert kept.names[24] == "0.png"
    for variant in range(2):
        varied = VARIED.apply(images.images, 4, variant, np.arange(24))
        wanted = np.concatenate(list(parts.features_of(varied)))
        np.testing.assert_allclose(kept.images[24 * variant :][:24], wanted, rtol=1e-4, atol=1e-4)
    assert len(features(parts, images, variants=5)) == 24  # nothing varies: all variants would be the same


def test_features_are_computed_once(own_cache, monkeypatch):
    parts, images, told = Parts(network(), "F1"), blobs(), []
    first = features(parts, images, VARIED, 3, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (72, 72)
    monkeypatch.setattr(Parts, "features_of", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(features(parts, images, VARIED, 3).images, first.images)
    assert len(list(own_cache.glob("*.npy"))) == 1


def test_features_of_anything_else_are_others(own_cache):
    parts, images = Parts(network(), "F1"), blobs()
    features(parts, images, VARIED, 2, seed=1)
    other = network()
    other["conv.w"][0, 0, 0, 0] += 1
    features(Parts(other, "F1"), images, VARIED, 2, seed=1)
    features(Parts(network(), "F2"), images, VARIED, 2, seed=1)
    features(parts, images.take(slice(1, None)), VARIED, 2, seed=1)
    features(parts, images, replace(VARIED, shift=2), 2, seed=1)
    features(parts, images, VARIED, 3, seed=1)
    features(parts, images, VARIED, 2, seed=2)
    assert len(list(own_cache.glob("*.npy"))) == 7


def test_damaged_features_are_made_again(own_cache):
    parts, images = Parts(network(), "F1"), blobs()
    wanted = features(parts, images).images.copy()
    (path,) = own_cache.glob("*.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x55
    path.write_bytes(content)
    np.testing.assert_array_equal(features(parts, images).images, wanted)


def test_the_oldest_features_go_when_there_are_too_many(own_cache, monkeypatch):
    monkeypatch.setattr("rot180.training.features.MOST_KEPT", 1500)  # two of three
    parts = Parts(network(), "F1")
    for seed in (1, 2, 3):
        features(parts, blobs(seed=seed))
    assert len(list(own_cache.glob("*.npy"))) == len(list(own_cache.glob("*.json"))) == 2
    features(parts, blobs(seed=3))


# --- runs --------------------------------------------------------------------------------------------------------


def run(folder, below, **changes):
    begun = start(network(), NAMES, pixels="0..1", seed=1)
    settings = Settings(
        "blobs",
        "small",
        begun.graph,
        Recipe(epochs=4, batch=4, learning_rate=0.1, validation=0.25, augmentation=VARIED),
        "he",
        "reference",
        None,
        start="old.onnx",
        new_head=True,
        freeze_below=below,
        variants=2,
    )
    return Run(folder, replace(settings, **changes), Sets(blobs(), blobs(9, 2)), start=begun)


@pytest.mark.parametrize("below", ["image", "block.conv", "F2"])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, below):
    """Promise 3, with a trained network at the start and a frozen part."""
    whole = run(tmp_path / "whole", below)
    list(whole)
    results = whole.finish()
    assert results["learning_parameters"] == whole.trainer.network.layout.count
    stopped = run(tmp_path / "stopped", below)
    for step in stopped:
        if step.step >= 5:
            stopped.stop()
    del stopped
    resumed = Run.resume(tmp_path / "stopped", Sets(blobs(), blobs(9, 2)))
    list(resumed)
    resumed.finish()
    assert (tmp_path / "stopped/weights.safetensors").read_bytes() == (
        tmp_path / "whole/weights.safetensors"
    ).read_bytes()
    frozen = below != "image"
    old, new = load(tmp_path / "whole/start.safetensors"), load(tmp_path / "whole/weights.safetensors")
    assert (old["conv.w"] == new["conv.w"]).all() == frozen
    assert results["test_error"] <= 0.4


def test_a_start_of_another_graph_is_refused(tmp_path):
    current = run(tmp_path / "run", "F2")
    del current
    network().save(tmp_path / "run/start.safetensors")
    with pytest.raises(RunError, match=r"start.safetensors: not the network that run.json describes"):
        Run.resume(tmp_path / "run", Sets(blobs(), blobs(9, 2)))


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A network in a file, a data set in another, and a run of the one on the other, frozen below the head."""
    folder = tmp_path_factory.mktemp("stored")
    network(class_names=tuple("vwxyz")).save(folder / "old.safetensors")
    train_set, test_set = blobs(), blobs(9, 2)
    np.savez(
        folder / "blobs.npz",
        x_train=train_set.images.transpose(0, 2, 3, 1),
        y_train=train_set.labels,
        x_test=test_set.images.transpose(0, 2, 3, 1),
        y_test=test_set.labels,
    )
    return folder


def command(*words):
    return main(["train", *map(str, words)])


FAST = "--epochs", 3, "--batch", 4, "--engine", "reference", "--shift", 0


def test_training_begins_with_a_file(stored, tmp_path, capsys):
    begun = (stored / "blobs.npz", "--start", stored / "old.safetensors", "--pixels", "0..1", *FAST)
    assert command(*begun, "--out", tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert "--new-head" in said
    assert "--freeze-below F2" in said
    settings = json.loads((tmp_path / "run/run.json").read_text())
    assert settings["freeze_below"] == "F2"
    assert settings["network"] == "old"
    assert settings["start"] == str(stored / "old.safetensors")
    old, new = load(stored / "old.safetensors"), load(tmp_path / "run/weights.safetensors")
    np.testing.assert_array_equal(new["F1.w"], old["F1.w"])
    assert new.graph.classes == 3
    # again, from its own run.json, and from the run itself with its head kept and all of it learning
    assert command("--recipe", tmp_path / "run/run.json", "--out", tmp_path / "again") == 0
    same = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("run", "again")]
    assert same[0] == same[1]
    assert command(stored / "blobs.npz", "--start", tmp_path / "run", *FAST, "--out", tmp_path / "on") == 0
    assert "--no-new-head" in capsys.readouterr().err
    assert (load(tmp_path / "on/weights.safetensors")["conv.w"] != old["conv.w"]).any()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--variants", 3], "--variants is for runs that --start from a trained network"),
        (["--freeze-below", "F2"], "--freeze-below is for runs that --start from a trained network"),
        (["--start", "OLD", "--network", "lenet-5"], "--network and --start both name a network"),
        (
            ["--start", "OLD", "--size", "64"],
            r"--size is 64, but .*old.safetensors takes images of 3x8x8: leave it out",
        ),
        (["--start", "OLD", "--freeze-below", "F9"], "there is no node 'F9'"),
        (["--start", "OLD", "--variants", "0"], "--variants is 0"),
        (["--start", "nothing.onnx"], "nothing.onnx: there is no such file"),
        (["--start", "OLD", "--no-new-head", "--pixels", "0..1", "--prepare", "zca"], None),
    ],
)
def test_what_cannot_be_begun_is_said_in_a_sentence(stored, tmp_path, capsys, words, sentence):
    words = [stored / "old.safetensors" if word == "OLD" else word for word in words]
    code = command(stored / "blobs.npz", *words, *FAST, "--out", tmp_path / "run")
    assert code == (1 if sentence else 0)
    if sentence:
        assert re.search(sentence, capsys.readouterr().err)
        assert not (tmp_path / "run").exists()


def test_a_run_that_prepares_its_images_is_not_taken_over(stored, tmp_path, capsys):
    assert (
        command(stored / "blobs.npz", "--prepare", "pca:3", *FAST, "--network", "INPUT -> FC", "--out", tmp_path / "a")
        == 0
    )
    assert command(stored / "blobs.npz", "--start", tmp_path / "a", *FAST, "--out", tmp_path / "b") == 1
    assert "prepares its images (pca:3), which a new run cannot take over" in capsys.readouterr().err


def test_the_python_of_the_page(tmp_path, monkeypatch, capsys):
    from PIL import Image

    for number, kind in enumerate(("ape", "bee", "cat")):
        (tmp_path / "PHOTOS" / kind).mkdir(parents=True)
        for k in range(8):
            picture = np.full((8, 8, 3), 10 * k, np.uint8)
            picture[..., number] += 180
            Image.fromarray(picture).save(tmp_path / "PHOTOS" / kind / f"{k}.png")
    network().export_onnx(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rot180.load", partial(load, engine="reference"))
    page = Path(__file__).parent.parent / "docs" / "transfer.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(code.replace("size=224", "size=8"), {})
    assert float(capsys.readouterr().out.split()[-1]) <= 0.5
    assert load("flowers.safetensors").class_names == ("ape", "bee", "cat")


def test_an_onnx_model_that_was_fed_prepared_images_is_fed_them(tmp_path, capsys):
    from PIL import Image

    picture = np.random.default_rng(3).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    old = network(class_names=tuple("vwxyz"))
    old.export_onnx(tmp_path / "model.onnx")

    def probability(*words):
        asked = map(str, ["predict", tmp_path / "model.onnx", tmp_path / "a.png", "--json", "--top", 5, *words])
        assert main([*asked]) == 0
        said = capsys.readouterr()
        return {each["class"]: each["probability"] for each in json.loads(said.out)[0]["top"]}, said.err

    for words, pixels in (([], "imagenet"), (["--pixels=-1..1"], "-1..1")):
        found, said = probability(*words)
        assert ("takes no pixels 0..255; they are scaled as is usual: --pixels=imagenet" in said) == (not words)
        wanted = start(old, old.class_names, pixels=pixels, new_head=False).probabilities(picture.transpose(2, 0, 1))[0]
        assert [found[name] for name in "vwxyz"] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert main(["predict", str(tmp_path / "model.onnx"), str(tmp_path / "a.png"), "--pixels", "x"]) == 1
    assert "there is no scaling of pixels 'x'" in capsys.readouterr().err
