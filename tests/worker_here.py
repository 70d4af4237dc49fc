from keras_deeplstm.experiments.processes.worker import CallError
from keras_deeplstm.experiments.tasks import DataError


class WorkerHere:
    """In place of `Worker`: the same calls and errors, without a second process."""

    memory = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def stop(self):
        pass

    renew = stop

    def call(self, function, *arguments, on_message):
        try:
            return function(on_message, *arguments)
        except DataError:
            raise
        except Exception as error:
            raise CallError(f"{error or type(error).__name__}") from error
