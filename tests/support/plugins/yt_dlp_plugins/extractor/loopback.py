"""A plugin of yt-dlp: videos of `standin.Videos`, which refuse in YouTube's words as well as by a status."""

from typing import Any

from yt_dlp.extractor.common import InfoExtractor


class LoopbackIE(InfoExtractor):
    """Reads `{"media": address}` or `{"said": what YouTube says of a video that it does not show}`."""

    _VALID_URL = r"http://127\.0\.0\.1:\d+/video/(?P<id>[A-Za-z0-9_-]{11})"

    def _real_extract(self, url: str) -> dict[str, Any]:
        ytid = self._match_id(url)
        page = self._download_json(url, ytid)
        if said := page.get("said"):
            self.raise_no_formats(said, expected=True, video_id=ytid)
        return {"id": ytid, "title": ytid, "url": page["media"], "ext": "flac", "vcodec": "none"}
