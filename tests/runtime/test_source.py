import socket
import threading

import cv2
import pytest
from made_video import brightening, write_video

from trt_lane.runtime.source import camera, video


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "drive.ts"
    write_video(path, brightening(40, 64, 128, step=6), 25, codec="mp4v")
    if not cv2.VideoCapture(str(path)).read()[0]:
        pytest.skip("this OpenCV writes no MPEG-4 transport stream")
    return path


@pytest.fixture
def address(transport_stream):
    """Of a camera that sends its stream to whoever connects first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def send():
            with server.accept()[0] as channel:
                channel.sendall(transport_stream.read_bytes())

        thread = threading.Thread(target=send)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_no_decoder_of_a_stream_holds_frames_back(address):
    source = camera(address).open()
    assert source._capture.get(cv2.CAP_PROP_N_THREADS) == 1
    means = []
    while (picture := source.read()) is not None:
        means.append(picture.mean())
    source.close()
    assert len(means) == 40 and means == sorted(means)


def test_a_file_is_decoded_by_one_thread(transport_stream):
    source = video(transport_stream).open()
    assert source._capture.get(cv2.CAP_PROP_N_THREADS) == 1
    source.close()


def test_an_opencv_without_ffmpeg_reads_files_by_what_it_has(tmp_path, monkeypatch):
    path = write_video(tmp_path / "drive.avi", brightening(5, 64, 128, step=6), 25)
    capture = cv2.VideoCapture

    def without_ffmpeg(what, api, *options):
        return capture() if api == cv2.CAP_FFMPEG else capture(what, api, *options)

    monkeypatch.setattr(cv2, "VideoCapture", without_ffmpeg)
    source = video(path).open()
    assert sum(source.read() is not None for _ in range(9)) == 5
    source.close()
