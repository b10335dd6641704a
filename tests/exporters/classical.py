"""Classical models of scikit-learn, xgboost, lightgbm and catboost, as their exporters write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from exporters.frame import Case, Exported, missing

SAMPLES, FEATURES = 240, 6
OPSETS = {"": 19, "ai.onnx.ml": 3}
# By the beginning of a name, where the file says something else than the model; graphc says what ONNX Runtime does.
EXPLAINED = {
    "Normalizer max": "the file divides by the largest element with its sign, the model by the largest magnitude",
    "CalibratedClassifierCV isotonic": "the file takes the nearest of the steps that the model interpolates between",
    "CatBoostClassifier 2 ints": "leaves name both classes: such labels are 0 and 1 in ONNX Runtime, whatever the file calls them",
}


def explained(name: str) -> str | None:
    """Why a file says something else than the model."""
    return next((why for beginning, why in EXPLAINED.items() if name.startswith(beginning)), None)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def samples() -> np.ndarray:
    """Float32 features, so that what is trained in float64 sees the numbers that the file's model gets."""
    return rng().normal(size=(SAMPLES, FEATURES)).astype(np.float32)


def classes(count: int, strings: bool) -> np.ndarray:
    x = samples()
    score = x[:, 0] + 0.7 * x[:, 1] * x[:, 2] + rng(1).normal(size=SAMPLES) * 0.3
    y = np.digitize(score, np.quantile(score, np.linspace(0, 1, count + 1)[1:-1]))
    return np.array(["low", "middle", "high"])[y] if strings else y * 2 + 3


def target() -> np.ndarray:
    x = samples()
    return x[:, 0] + np.sin(2 * x[:, 1]) + 0.1 * rng(2).normal(size=SAMPLES)


# --- scikit-learn -----------------------------------------------------------------------------------------------------
def _sklearn(model: Any, x: Any, feeds: dict[str, np.ndarray], own: list[Any], **options: Any) -> Exported:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"f": FloatTensorType, "i": Int64TensorType, "U": StringTensorType, "O": StringTensorType}
    types = [(k, kinds[v.dtype.kind]([None, v.shape[1]])) for k, v in feeds.items()]
    chosen = {id(model): options} if options else None
    proto = to_onnx(model, initial_types=types, options=chosen, target_opset=OPSETS)
    return Exported(proto.SerializeToString(), [feeds], [own])


def classifier(make: Callable[[], Any], count: int, strings: bool, zipmap: bool = False, **options: Any) -> Exported:
    x, y = samples(), classes(count, strings)
    model = make().fit(x, y)
    test = rng(5).normal(size=(50, FEATURES)).astype(np.float32)
    scores = model.predict_proba(test) if hasattr(model, "predict_proba") else None
    if "raw_scores" not in options or options.pop("zipped", True):
        options = {"zipmap": zipmap, **options}
    return _sklearn(model, x, {"x": test}, [model.predict(test), scores], **options)


def estimator(make: Callable[[], Any], method: str, supervised: bool = True) -> Exported:
    x = samples()
    model = make().fit(x, target()) if supervised else make().fit(x)
    test = rng(5).normal(size=(50, FEATURES)).astype(np.float32)
    return _sklearn(model, x, {"x": test}, [getattr(model, method)(test)])


def mixed_pipeline() -> Exported:
    """Numbers and strings, by a ColumnTransformer."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    x = samples()
    x[rng(3).random(x.shape) < 0.1] = np.nan
    numbers = {f"n{i}": x[:, i] for i in range(3)}
    words = {"w": np.array(["red", "green", "blue"])[rng(4).integers(0, 3, SAMPLES)]}
    sizes = {"s": np.array(["S", "M", "L"])[rng(6).integers(0, 3, SAMPLES)]}
    frame = pd.DataFrame(numbers | words | sizes)
    model = make_pipeline(
        ColumnTransformer(
            [
                ("n", make_pipeline(SimpleImputer(), StandardScaler()), list(numbers)),
                ("w", OneHotEncoder(handle_unknown="ignore"), ["w"]),
                ("s", OrdinalEncoder(), ["s"]),
            ]
        ),
        RandomForestClassifier(20, max_depth=5, random_state=0),
    ).fit(frame, classes(2, True))
    feeds = {k: frame[[k]].to_numpy(np.float32 if k in numbers else object)[:60] for k in frame}
    own = [model.predict(frame[:60]), model.predict_proba(frame[:60])]
    return _sklearn(model, frame, feeds, own, zipmap=False)


TEXTS = np.array(
    ["the cat sat on the mat", "a dog and a cat", "birds sing", "the dog barks at the cat", "mat and dog"] * 6
)


def text(make: Callable[[], Any]) -> Exported:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    y = np.arange(len(TEXTS)) % 5 > 2
    model = make_pipeline(make(), LogisticRegression()).fit(TEXTS, y.astype(int))
    own = [model.predict(TEXTS), model.predict_proba(TEXTS)]
    return _sklearn(model, TEXTS, {"x": TEXTS[:, None].astype(object)}, own, zipmap=False)


def sklearn_cases() -> Iterator[tuple[str, Callable[[], Exported]]]:
    from sklearn import (
        cluster,
        decomposition,
        ensemble,
        gaussian_process,
        linear_model,
        naive_bayes,
        neighbors,
        neural_network,
        preprocessing,
        svm,
        tree,
    )
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    def logistic() -> Any:
        return linear_model.LogisticRegression()

    classifiers: dict[str, Callable[[], Any]] = {
        "DecisionTreeClassifier": lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0),
        "RandomForestClassifier": lambda: ensemble.RandomForestClassifier(30, random_state=0),
        "ExtraTreesClassifier": lambda: ensemble.ExtraTreesClassifier(30, random_state=0),
        "BaggingClassifier": lambda: ensemble.BaggingClassifier(random_state=0),
        "GradientBoostingClassifier": lambda: ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0),
        "HistGradientBoostingClassifier": lambda: ensemble.HistGradientBoostingClassifier(max_iter=20),
        "AdaBoostClassifier": lambda: ensemble.AdaBoostClassifier(n_estimators=8, random_state=0),
        "SVC": lambda: svm.SVC(),
        "SVC probability": lambda: svm.SVC(probability=True, random_state=0),
        "SVC linear": lambda: svm.SVC(kernel="linear"),
        "SVC poly": lambda: svm.SVC(kernel="poly", coef0=1.0, probability=True, random_state=0),
        "NuSVC": lambda: svm.NuSVC(kernel="sigmoid", gamma=0.05),
        "LinearSVC": lambda: svm.LinearSVC(random_state=0),
        "LogisticRegression": logistic,
        "RidgeClassifier": lambda: linear_model.RidgeClassifier(),
        "SGDClassifier": lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0),
        "Perceptron": lambda: linear_model.Perceptron(random_state=0),
        "MLPClassifier": lambda: neural_network.MLPClassifier((16,), max_iter=60, random_state=0),
        "KNeighborsClassifier": lambda: neighbors.KNeighborsClassifier(),
        "GaussianNB": lambda: naive_bayes.GaussianNB(),
        "BernoulliNB": lambda: naive_bayes.BernoulliNB(),
        "GaussianProcessClassifier": lambda: gaussian_process.GaussianProcessClassifier(random_state=0),
        "CalibratedClassifierCV": lambda: CalibratedClassifierCV(svm.LinearSVC(random_state=0)),
        "CalibratedClassifierCV isotonic": lambda: CalibratedClassifierCV(logistic(), method="isotonic"),
        "VotingClassifier": lambda: ensemble.VotingClassifier(
            [("l", logistic()), ("t", tree.DecisionTreeClassifier(max_depth=4, random_state=0))],
            voting="soft",
            flatten_transform=False,
        ),
        "StackingClassifier": lambda: ensemble.StackingClassifier(
            [("l", logistic()), ("t", tree.DecisionTreeClassifier(max_depth=4, random_state=0))]
        ),
        "Pipeline": lambda: make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(3), logistic()),
    }
    scores = {
        "LinearSVC": {"raw_scores": True, "zipped": False},
        "SVC": {"raw_scores": True},
        "SVC linear": {"raw_scores": True},
        "NuSVC": {"raw_scores": True},
        "RidgeClassifier": {"raw_scores": True},
        "Perceptron": {"raw_scores": True},
    }
    for name, make in classifiers.items():
        for count in (2, 3):
            for strings in (False, True):
                what = f"{name} {count} {'strings' if strings else 'ints'}"
                options = scores.get(name, {})
                yield what, lambda m=make, c=count, s=strings, o=options: classifier(m, c, s, **o)
    yield "ZipMap ints", lambda: classifier(logistic, 3, False, zipmap=True)
    yield "ZipMap strings", lambda: classifier(logistic, 3, True, zipmap=True)

    predictors: dict[str, Callable[[], Any]] = {
        "DecisionTreeRegressor": lambda: tree.DecisionTreeRegressor(max_depth=6, random_state=0),
        "RandomForestRegressor": lambda: ensemble.RandomForestRegressor(30, random_state=0),
        "ExtraTreesRegressor": lambda: ensemble.ExtraTreesRegressor(30, random_state=0),
        "GradientBoostingRegressor": lambda: ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0),
        "HistGradientBoostingRegressor": lambda: ensemble.HistGradientBoostingRegressor(max_iter=20),
        "AdaBoostRegressor": lambda: ensemble.AdaBoostRegressor(n_estimators=8, random_state=0),
        "SVR": lambda: svm.SVR(),
        "NuSVR poly": lambda: svm.NuSVR(kernel="poly", degree=2),
        "LinearSVR": lambda: svm.LinearSVR(random_state=0),
        "LinearRegression": lambda: linear_model.LinearRegression(),
        "Ridge": lambda: linear_model.Ridge(),
        "Lasso": lambda: linear_model.Lasso(0.01),
        "SGDRegressor": lambda: linear_model.SGDRegressor(random_state=0),
        "MLPRegressor": lambda: neural_network.MLPRegressor((16,), max_iter=60, random_state=0),
        "KNeighborsRegressor": lambda: neighbors.KNeighborsRegressor(),
        "GaussianProcessRegressor": lambda: gaussian_process.GaussianProcessRegressor(
            gaussian_process.kernels.RBF() + gaussian_process.kernels.WhiteKernel(0.5)
        ),
        "VotingRegressor": lambda: ensemble.VotingRegressor(
            [("r", linear_model.Ridge()), ("t", tree.DecisionTreeRegressor(max_depth=4, random_state=0))]
        ),
        "StackingRegressor": lambda: ensemble.StackingRegressor(
            [("r", linear_model.Ridge()), ("t", tree.DecisionTreeRegressor(max_depth=4, random_state=0))]
        ),
    }
    for name, make in predictors.items():
        yield name, lambda m=make: estimator(m, "predict")
    for name, make in {
        "IsolationForest": lambda: ensemble.IsolationForest(n_estimators=20, random_state=0),
        "OneClassSVM": lambda: svm.OneClassSVM(nu=0.2),
        "KMeans": lambda: cluster.KMeans(4, n_init=1, random_state=0),
    }.items():
        yield name, lambda m=make: estimator(m, "predict", supervised=False)
    for name, make in {
        "PCA": lambda: decomposition.PCA(3),
        "StandardScaler": lambda: preprocessing.StandardScaler(),
        "MinMaxScaler": lambda: preprocessing.MinMaxScaler(),
        "RobustScaler": lambda: preprocessing.RobustScaler(),
        "Normalizer l2": lambda: preprocessing.Normalizer("l2"),
        "Normalizer max": lambda: preprocessing.Normalizer("max"),
        "Binarizer": lambda: preprocessing.Binarizer(threshold=0.25),
        "PolynomialFeatures": lambda: preprocessing.PolynomialFeatures(2),
        "KBinsDiscretizer": lambda: preprocessing.KBinsDiscretizer(4, encode="ordinal", quantile_method="linear"),
    }.items():
        yield name, lambda m=make: estimator(m, "transform", supervised=False)
    yield "ColumnTransformer", mixed_pipeline
    yield "CountVectorizer", lambda: text(lambda: CountVectorizer(token_pattern="[a-z]+", lowercase=False))
    yield "TfidfVectorizer", lambda: text(lambda: TfidfVectorizer(token_pattern="[a-z]+", lowercase=False))
    yield (
        "TfidfVectorizer bigrams",
        lambda: text(lambda: TfidfVectorizer(token_pattern="[a-z]+", lowercase=False, ngram_range=(1, 2))),
    )


# --- gradient boosting libraries --------------------------------------------------------------------------------------
def with_missing() -> np.ndarray:
    x = samples()
    x[rng(7).random(x.shape) < 0.15] = np.nan
    return x


def boosted(package: str, model: Any, y: np.ndarray, method: str = "predict", **fit: Any) -> Exported:
    """xgboost or lightgbm, by onnxmltools; a part of the features is missing."""
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    x = with_missing()
    model.fit(x, y, **fit)
    convert = getattr(onnxmltools, f"convert_{package}")
    more = {"zipmap": False} if package == "lightgbm" else {}
    proto = convert(model, initial_types=[("x", FloatTensorType([None, FEATURES]))], target_opset=15, **more)
    own = [model.predict(x)] + ([model.predict_proba(x)] if hasattr(model, "predict_proba") else [])
    return Exported(proto.SerializeToString(), [{"x": x}], [own])


def xgboost_cases() -> Iterator[tuple[str, Callable[[], Exported]]]:
    import xgboost

    some = {"n_estimators": 20, "max_depth": 4}
    yield "XGBClassifier 2", lambda: boosted("xgboost", xgboost.XGBClassifier(**some), (classes(2, False) - 3) // 2)
    yield "XGBClassifier 3", lambda: boosted("xgboost", xgboost.XGBClassifier(**some), (classes(3, False) - 3) // 2)
    yield "XGBRegressor", lambda: boosted("xgboost", xgboost.XGBRegressor(**some), target())
    poisson = {**some, "objective": "count:poisson"}
    yield "XGBRegressor poisson", lambda: boosted("xgboost", xgboost.XGBRegressor(**poisson), np.exp(target() / 2))
    yield (
        "XGBRanker",
        lambda: boosted(
            "xgboost",
            xgboost.XGBRanker(**some),
            (classes(3, False) - 3) // 2,
            qid=np.repeat(np.arange(SAMPLES // 20), 20),
        ),
    )
    yield "XGBRFClassifier", lambda: boosted("xgboost", xgboost.XGBRFClassifier(**some), (classes(2, False) - 3) // 2)


def lightgbm_cases() -> Iterator[tuple[str, Callable[[], Exported]]]:
    import lightgbm

    some = {"n_estimators": 20, "num_leaves": 12, "verbose": -1}
    for count in (2, 3):
        yield (
            f"LGBMClassifier {count}",
            lambda c=count: boosted("lightgbm", lightgbm.LGBMClassifier(**some), classes(c, False)),
        )
    yield "LGBMRegressor", lambda: boosted("lightgbm", lightgbm.LGBMRegressor(**some), target())
    poisson = {**some, "objective": "poisson"}
    yield "LGBMRegressor poisson", lambda: boosted("lightgbm", lightgbm.LGBMRegressor(**poisson), np.exp(target() / 2))


def catboost_model(make: Callable[[Any], Any], y: np.ndarray) -> Exported:
    import tempfile
    from pathlib import Path

    import catboost

    x = samples()
    model = make(catboost).fit(x, y)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        model.save_model(str(file), format="onnx")
        data = file.read_bytes()
    own = [model.predict(x).reshape(-1)] + ([model.predict_proba(x)] if hasattr(model, "predict_proba") else [])
    return Exported(data, [{"features": x}], [own])


def catboost_cases() -> Iterator[tuple[str, Callable[[], Exported]]]:
    some = {"iterations": 20, "depth": 4, "verbose": False, "allow_writing_files": False}
    for count in (2, 3):
        for strings in (False, True):
            yield (
                f"CatBoostClassifier {count} {'strings' if strings else 'ints'}",
                lambda c=count, s=strings: catboost_model(lambda m: m.CatBoostClassifier(**some), classes(c, s)),
            )
    yield "CatBoostRegressor", lambda: catboost_model(lambda m: m.CatBoostRegressor(**some), target())


def cases() -> Iterator[Case]:
    """Those of packages that are not installed are left out."""
    exporters = {
        "sklearn": ("skl2onnx", sklearn_cases),
        "xgboost": ("onnxmltools", xgboost_cases),
        "lightgbm": ("onnxmltools", lightgbm_cases),
        "catboost": ("catboost", catboost_cases),
    }
    for package, (exporter, found) in exporters.items():
        if missing([package]) is None:
            for name, make in found():
                yield Case("classical", name, exporter, make, different=explained(name) or "")
