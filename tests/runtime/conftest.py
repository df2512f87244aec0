import pytest
from tiny_artifact import make_artifact


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("artifact")).folder
