"""A part of AudioSet's original lists, from list to log-mel store. tools/rehearsal.py runs all of them."""

import pytest
from rehearsal import rehearse


@pytest.mark.slow
def test_a_part_of_the_genuine_lists_runs_through_the_dag(shared_data, tmp_path, capsys):
    lists, recordings = shared_data / "audioset", shared_data / "esc10" / "audio"
    for folder in (lists, recordings):
        if not folder.is_dir():
            pytest.skip(f"no {folder.name} in ../shared/data; see CONTRIBUTING.md")
    rehearse(tmp_path, lists, recordings, clips=200)
    assert "All results match the served audio" in capsys.readouterr().out
