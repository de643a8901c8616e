"""Object storage for the tests of runs."""

import pytest
import tensorflow as tf


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The URL `gs://bucket`, for which epath's calls of TensorFlow go to `tmp_path`."""

    def local(path):
        return str(path).replace("gs://bucket", str(tmp_path))

    for name in ("exists", "isdir", "listdir", "stat", "remove", "makedirs", "rename"):
        function = getattr(tf.io.gfile, name)

        def call(*paths, function=function, **more):
            return function(*[local(path) for path in paths if isinstance(path, str)], **more)

        monkeypatch.setattr(tf.io.gfile, name, call)

    class File(tf.io.gfile.GFile):
        def __init__(self, path, *arguments):
            super().__init__(local(path), *arguments)

    monkeypatch.setattr(tf.io.gfile, "GFile", File)
    return "gs://bucket"
