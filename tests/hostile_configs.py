"""What a stranger may put into a file, tried in a process that watches itself.

    python hostile_configs.py FOLDER [ARGUMENT ...]

Every argument of every class that the package registers, or each of those named, is replaced by
every payload, in `from_config`; if it names functions or sizes, also in a `.keras` file. Prints, as
JSON, how many were refused, which were not, and what the process did meanwhile that it should not:
writing, sockets, processes, reading the file that a payload names.
"""

import json
import math
import os
import sys
import zipfile

SECRET = "/etc/passwd"
WATCHED = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link")

seen = []
watching = False


def watch(event, arguments):
    if not watching:
        return
    if event == "open":
        path, _, flags = arguments
        if path == SECRET or (isinstance(flags, int) and flags & WRITING):
            seen.append(f"open {path}")
    elif event.startswith(WATCHED) or event in CHANGING:
        seen.append(event)


sys.addaudithook(watch)


def function(module, name):
    config = {"module": module, "class_name": "function", "config": name}
    return {**config, "registered_name": name}


def instance(module, name, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
PAYLOADS = {
    "os.system": function("os", "system"),
    "eval": function("builtins", "eval"),
    "get_file": function("keras.utils", "get_file"),
    "load_data": function("keras.datasets.mnist", "load_data"),
    "set_dtype_policy": function("keras.config", "set_dtype_policy"),
    "lambda": LAMBDA,
    "Lambda": instance("keras.layers", "Lambda", function=LAMBDA),
    "TFSMLayer": instance("keras.layers", "TFSMLayer", filepath=SECRET),
    "StringLookup": instance("keras.layers", "StringLookup", vocabulary=SECRET),
    "CSVLogger": instance("keras.callbacks", "CSVLogger", filename="log.csv"),
    "path": SECRET,
    "nan": math.nan,
    "inf": math.inf,
    "list": ["x", None],
}
# Where these would be valid values, or Keras judges them: by argument.
HUGE = {"units": 10**9, "depth": 10**9, "length": 10**9, "batch_size": 10**12, "seed": 2**80}
IN_FILES = (
    *("activation", "kernel_initializer", "bias_regularizer", "units", "depth", "seed", "length"),
    "layers",  # of those round other layers
)


def registered(keras):
    """An object of each class that the package registers, by name."""
    from keras_deeplstm import layers, states
    from keras_deeplstm.initializers import GateBias, OrthogonalGates

    def make(name):
        if name in ("DepthLSTM", "Residual", "Highway"):
            return getattr(layers, name)([keras.layers.Dense(4), keras.layers.Dense(4)])
        if name == "PositionEmbedding":
            return layers.PositionEmbedding(5)
        return getattr(layers, name)(4, 2)

    x = keras.Input((4,))
    found = [GateBias(), OrthogonalGates(), states.CarriedStates(keras.Model(x, x), 2)]
    found += [make(name) for name in layers.__all__]
    return {type(one).__name__: one for one in found}


def attempts(config, arguments):
    for argument in [one for one in config if not arguments or one in arguments]:
        huge = {"huge": HUGE[argument]} if argument in HUGE else {}
        payloads = {**PAYLOADS, **huge}
        if argument == "layers":
            payloads |= {f"[{name}]": [payload] for name, payload in PAYLOADS.items()}
        for name, payload in payloads.items():
            yield argument, name, {**config, argument: payload}


def replaced(path, config, target):
    """A copy of a `.keras` file with another configuration of our layer."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                whole = json.loads(content)
                layers = whole["config"]["layers"]
                (ours,) = (layer for layer in layers if layer["module"] != "keras.layers")
                ours["config"] = config
                content = json.dumps(whole)
            new.writestr(name, content)


def main(folder, *arguments):
    global watching
    import keras

    refused, accepted = {}, []
    objects = registered(keras)
    files = []
    for name, one in objects.items():
        if not isinstance(one, keras.layers.Layer) or name == "CarriedStates":
            continue
        sizes = {"GridLSTM2D": (5,), "PositionEmbedding": (5,), "GridLSTM3D": (2, 3)}
        shape = (*sizes.get(name, ()), 4)
        model = keras.Sequential([keras.Input(shape), one])
        path = os.path.join(folder, f"{name}.keras")
        model.save(path)
        keras.models.load_model(path)  # what is imported on the way is imported now
        for argument, payload, config in attempts(one.get_config(), arguments):
            if argument in IN_FILES:
                target = os.path.join(folder, f"{name}-{argument}-{payload}.keras")
                replaced(path, config, target)
                files.append((name, argument, payload, target))

    def attempt(what, name, argument, payload, load, source):
        try:
            load(source)
        except (ValueError, TypeError) as error:
            refused[what] = refused.get(what, 0) + 1
            if not str(error):
                accepted.append(f"{what} {name} {argument} {payload}: no message")
        except BaseException as error:
            accepted.append(f"{what} {name} {argument} {payload}: {error!r}")
        else:
            accepted.append(f"{what} {name} {argument} {payload}")

    watching = True
    for name, one in objects.items():
        for argument, payload, config in attempts(one.get_config(), arguments):
            attempt("from_config", name, argument, payload, type(one).from_config, config)
    for name, argument, payload, path in files:
        attempt("load_model", name, argument, payload, keras.models.load_model, path)
    watching = False

    done, policy = list(seen), keras.config.dtype_policy().name
    seen.clear()
    watching = True  # that it would have been seen
    open(os.path.join(folder, "control"), "w").close()
    open(SECRET).close()
    os.remove(os.path.join(folder, "control"))
    watching = False
    answer = {"refused": refused, "accepted": accepted, "done": done, "control": len(seen)}
    print(json.dumps({**answer, "classes": sorted(objects), "policy": policy}))


if __name__ == "__main__":
    main(*sys.argv[1:])
