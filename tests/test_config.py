"""Settings: presets, files, overrides, and what a mistake in them gets."""

from itertools import pairwise

import pytest

from mfgan.config import RunConfig, load_config, parse_config, stored_config
from mfgan.config.stages import UNVALIDATED
from mfgan.errors import MfganError


@pytest.mark.parametrize("preset", ["tuned", "paper"])
def test_toml_comes_back_as_it_was(preset, tmp_path):
    config = load_config(preset, overrides=["discriminator.factors=['id', 'genre']", "seed=7"])
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert load_config("tuned", tmp_path / "config.toml") == config


def test_paper_is_as_published():
    config = load_config("paper")
    generator, likelihood, turns = config.generator, config.pretrain_generator, config.adversarial
    assert (generator.hidden_dim, generator.num_blocks, generator.num_heads) == (50, 2, 2)
    assert (generator.dropout, generator.max_len) == (0.2, 50)
    assert (likelihood.loss, likelihood.epochs, likelihood.batch_size) == ("bce", 400, 128)
    adam = likelihood.optimizer
    assert (adam.kind, adam.learning_rate, adam.beta2) == ("adam", 1e-3, 0.98)
    assert (config.pretrain_discriminator.epochs, config.pretrain_discriminator.batch_size) == (
        1,
        16,
    )
    assert (turns.turns, turns.generator_epochs, turns.discriminator_epochs) == (100, 80, 1)


def test_the_later_source_wins(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = 3\n[generator]\nhidden_dim = 32\ndropout = 0.3\n")
    config = load_config("paper", file, ["generator.dropout=0.4"])
    assert (config.seed, config.generator.hidden_dim) == (3, 32)
    assert config.generator.dropout == 0.4
    assert config.generator.max_len == 50


def test_override_values_are_toml_or_bare_words():
    config = load_config(
        overrides=["generator.norm=rms", "tensorboard=true", "discriminator.factors=['id']"]
    )
    assert config.generator.norm == "rms"
    assert config.tensorboard is True
    assert config.discriminator.factors == ("id",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "generator.hiden_dim=3",
            "generator.hiden_dim: no such setting; did you mean 'generator.hidden_dim'",
        ),
        ("hidden_dim=3", "did you mean generator.hidden_dim or discriminator.hidden_dim"),
        (
            "generator.factors=genre",
            "generator.factors: must be a list of names or all, got .genre.",
        ),
        ("generator.factors=[1]", "generator.factors: must be a list of names or all, got .1."),
        ("generator.hidden_dim=0", "generator.hidden_dim: input should be .* 1, got 0"),
        ("generator.hidden_dim=63", "hidden_dim must be a multiple of num_heads, got 63 and 2"),
        ("generator.norm=batch", "generator.norm: .*got 'batch'"),
        ("pretrain_generator.optimizer.learning_rate=nan", "learning_rate"),
        ("generator=4", "generator: .*got 4"),
        ("generator.hidden_dim", "--set must be name.name=value, got 'generator.hidden_dim'"),
        (".=1", "--set must be"),
        ("pretrain_generator.sparse_items=true", "sparse_items must be false with loss softmax"),
        ("adversarial.epochs=3", "adversarial: epochs must be left at 1, turns, .*, got 3"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(MfganError, match=message) as caught:
        load_config(overrides=[override])
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MfganError, match="must exist"):
        load_config(file=tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seed = = 1")
    with pytest.raises(MfganError, match="must be TOML"):
        load_config(file=tmp_path / "bad.toml")
    with pytest.raises(MfganError, match="did you mean 'tuned'"):
        load_config("tunes")


def test_differences_name_settings():
    other = parse_config({"generator": {"dropout": 0.5}, "seed": 1})
    assert RunConfig().differences(other) == ["seed", "generator.dropout"]


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().seed = 3


def test_a_setting_that_came_after_a_run_is_off_in_it(tmp_path):
    file = tmp_path / "config.toml"
    lines = load_config("tuned").to_toml().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith("relations")))
    assert load_config("tuned").generator.relations == "all"
    assert stored_config(file).generator.relations == ()
    again = stored_config(file, ["generator.relations=['transition']"])
    assert again.generator.relations == ("transition",)


def test_the_way_out_of_a_log_without_validation_is_whole():
    words = UNVALIDATED.split()
    overrides = [value for flag, value in pairwise(words) if flag == "--set"]
    assert len(overrides) == words.count("--set") == 3
    config = load_config(overrides=overrides)
    assert not config.selection.enabled
    assert config.generator.relations


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["cross_fit.folds=1"], "folds must be 0 or at least 2, got 1"),
        (["generator.factors=['genre', 'genre']"], "must be named once, got genre, genre"),
        (["discriminator.factors=['genre', 'genre']"], "must be named once, got genre, genre"),
        (
            ["generator.normalize=true", "pretrain_generator.sparse_items=true",
             "generator.factors=[]", "pretrain_generator.loss=bce"],
            "sparse_items must be false with generator.normalize",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_together_is_refused(settings, said):
    with pytest.raises(MfganError, match=said):
        load_config("paper", overrides=settings)
