"""CSV files of the user's own: which separator they have, and each field in its own column."""

import warnings

from keras_deeplstm.experiments.tasks.task import DataError


def first_line(path: str) -> tuple[str, list[str]]:
    """The separator, which is a comma, semicolon or tab, and the fields of the first line."""
    import pandas as pd  # the command's help does not wait for it

    for separator in ",;\t":
        fields = list(map(str, pd.read_csv(path, sep=separator, nrows=0)))
        if len(fields) > 1:
            return separator, fields
    return ",", fields


def read(path: str, header: bool = True):
    """The data frame of a file. What pandas raises for one that is no CSV is raised as it is.

    A separator at the end of each line begins no column. A `DataError` says that lines have more
    fields than the header, of which pandas would leave some out or give them other names.
    """
    import pandas as pd

    separator, names = first_line(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                header=0 if header else None,
                index_col=False,  # else, with one field too many, the first is taken out as index
                low_memory=False,  # else the type of a column is guessed anew in each part of it
            )
    except pd.errors.ParserWarning:
        raise DataError(
            f"'{path}' has lines with more fields than its header names, which are: "
            f"{', '.join(names)}. Give each column a name"
        ) from None
    last = frame.columns[-1]
    nameless = not header or str(last).startswith("Unnamed: ")
    if nameless and len(frame) and frame[last].isna().all():
        frame = frame.iloc[:, :-1]
    return frame
