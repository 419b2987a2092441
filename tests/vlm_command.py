"""`vlm` in this process, as its console script runs it."""

from click.testing import CliRunner, Result

from vlm.main import main


def run_vlm(*args: object, code: int = 0) -> Result:
    """Run `vlm ARGS`, which must exit with `code` and without a traceback."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="vlm")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result
