import faults_in_code
import pytest


@pytest.mark.parametrize("fault", faults_in_code.FAULTS, ids=lambda fault: fault.file)
def test_the_line_of_a_fault_is_still_there(fault):
    """Whoever changes the line moves the fault along, and runs `faults_in_code.py` again."""
    text = (faults_in_code.ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.right) == 1
    for name in fault.files.split():
        assert (faults_in_code.ROOT / "tests" / f"{name}.py").exists()
