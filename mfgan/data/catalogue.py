"""Public data sets that ``mfgan datasets fetch`` knows: addresses, checksums, licences."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Address:
    """One file to fetch.

    Args:
        url: Where its makers keep it.
        name: What it is called in the folder; for a zip archive not used.
        algorithm: The checksum's kind; ``gzip`` stands for no checksum but that of the packing.
        digest: Hexadecimal checksum of the file as fetched.
        members: For a zip archive the files taken out of it, by their names without folders.
    """

    url: str
    name: str
    algorithm: Literal["sha256", "md5", "gzip"]
    digest: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wheel:
    """A copy of the data inside a wheel on the configured Python package index.

    Args:
        requirement: The wheel, with its version.
        members: Member of the wheel to name in the folder and sha256 of what is written there.
        header: The member whose first line is left out, so that it is the official file again.
    """

    requirement: str
    members: dict[str, tuple[str, str]]
    header: str


@dataclass(frozen=True)
class Entry:
    """One data set.

    Args:
        format: What ``mfgan prepare --format`` reads it by.
        source: The file to give ``prepare``, or ``.`` for the folder.
        rows: Interactions.
        megabytes: Size of the download, where it is known.
        licence: Its terms in a line.
        home: The page to read more at, or to fetch by hand from.
        addresses: None where its terms must be accepted by hand.
        wheel: Where else it is to be had.
    """

    format: str
    source: str
    rows: int
    megabytes: float | None
    licence: str
    home: str
    addresses: tuple[Address, ...] = ()
    wheel: Wheel | None = None


_GROUPLENS = "GroupLens: research only, no redistribution"
_GROUPLENS_HOME = "https://grouplens.org/datasets/movielens/"
_SASREC = "https://raw.githubusercontent.com/kang205/SASRec/master/data"
_S3REC = "https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/master/data"
_STEAM = "https://mcauleylab.ucsd.edu/public_datasets/data/steam"
_U_DATA_SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
U_DATA = "u.data"


def _movielens(
    name: str, algorithm: Literal["sha256", "md5"], digest: str, *members: str
) -> tuple[Address, ...]:
    url = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    return (Address(url, f"{name}.zip", algorithm, digest, members),)


_DAT = ("ratings.dat", "movies.dat", "users.dat", "README", "README.html")
_CSV = ("ratings.csv", "movies.csv", "README.txt")

CATALOGUE: dict[str, Entry] = {
    "ml-100k": Entry(
        format="ml-100k",
        source=".",
        rows=100_000,
        megabytes=4.9,
        licence=_GROUPLENS,
        home=_GROUPLENS_HOME,
        addresses=_movielens(
            "ml-100k",
            "sha256",
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            U_DATA,
            "u.item",
            "u.genre",
            "u.user",
            "README",
        ),
        wheel=Wheel(
            requirement="recbole==1.2.1",
            members={
                "recbole/dataset_example/ml-100k/ml-100k.inter": (U_DATA, _U_DATA_SHA256),
                "recbole/dataset_example/ml-100k/ml-100k.item": (
                    "ml-100k.item",
                    "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
                ),
            },
            header="recbole/dataset_example/ml-100k/ml-100k.inter",
        ),
    ),
    "ml-1m": Entry(
        format="ml-1m",
        source=".",
        rows=1_000_209,
        megabytes=5.9,
        licence=_GROUPLENS,
        home=_GROUPLENS_HOME,
        addresses=_movielens(
            "ml-1m",
            "sha256",
            "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            *_DAT,
        ),
    ),
    "ml-10m": Entry(
        format="ml-1m",
        source=".",
        rows=10_000_054,
        megabytes=65.6,
        licence=_GROUPLENS,
        home=_GROUPLENS_HOME,
        addresses=_movielens("ml-10m", "md5", "ce571fd55effeba0271552578f2648bd", *_DAT),
    ),
    "ml-20m": Entry(
        format="movielens-csv",
        source=".",
        rows=20_000_263,
        megabytes=198.7,
        licence=_GROUPLENS,
        home=_GROUPLENS_HOME,
        addresses=_movielens(
            "ml-20m",
            "sha256",
            "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
            *_CSV,
        ),
    ),
    "ml-25m": Entry(
        format="movielens-csv",
        source=".",
        rows=25_000_095,
        megabytes=262.0,
        licence=_GROUPLENS,
        home=_GROUPLENS_HOME,
        addresses=_movielens("ml-25m", "md5", "6b51fb2759a8657d3bfcbfc42b592ada", *_CSV),
    ),
    "sasrec-ml-1m": Entry(
        format="sequences",
        source="sasrec.txt",
        rows=999_611,
        megabytes=9.1,
        licence=_GROUPLENS,
        home="https://github.com/kang205/SASRec",
        addresses=(
            Address(
                url=f"{_SASREC}/ml-1m.txt",
                name="sasrec.txt",
                algorithm="sha256",
                digest="b725f3acb3986fe3130bffd1e77a74d182a1f51799567a236dbd60270f95b0a2",
            ),
        ),
    ),
    "sasrec-video": Entry(
        format="sequences",
        source="Video.txt",
        rows=287_107,
        megabytes=3.2,
        licence="Apache-2.0 repository; Amazon reviews",
        home="https://github.com/kang205/SASRec",
        addresses=(
            Address(
                url=f"{_SASREC}/Video.txt",
                name="Video.txt",
                algorithm="sha256",
                digest="b7376fe24430743f411dc7f567285657b2adb3f74361cc7ba0aee94f3024b651",
            ),
        ),
    ),
    "s3rec-beauty": Entry(
        format="sequences",
        source="Beauty.txt",
        rows=198_502,
        megabytes=1.4,
        licence="none stated; Amazon reviews",
        home="https://github.com/RUCAIBox/CIKM2020-S3Rec",
        addresses=(
            Address(
                url=f"{_S3REC}/Beauty.txt",
                name="Beauty.txt",
                algorithm="sha256",
                digest="226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
            ),
            Address(
                url=f"{_S3REC}/Beauty_item2attributes.json",
                name="Beauty_item2attributes.json",
                algorithm="sha256",
                digest="129e40f67486f6877eff0f5318cfa8530ee8ac23d8b0d1de04e1bb7a2ba0b2d4",
            ),
        ),
    ),
    "steam": Entry(
        format="steam",
        source=".",
        rows=7_793_069,
        megabytes=1_300.0,
        licence="UCSD: research only",
        home="https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
        addresses=(
            Address(
                url=f"{_STEAM}/steam_reviews.json.gz",
                name="steam_reviews.json.gz",
                algorithm="gzip",
            ),
            Address(
                url=f"{_STEAM}/steam_games.json.gz", name="steam_games.json.gz", algorithm="gzip"
            ),
        ),
    ),
    "retailrocket": Entry(
        format="retailrocket",
        source=".",
        rows=2_756_101,
        megabytes=None,
        licence="CC BY-NC-SA 4.0; by hand, with an account",
        home="https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
    ),
}
