"""Estimators for scikit-learn: classifiers, regressors, autoencoders and a detector of outliers.

They follow its rules, all of them: pipelines, grid searches, cloning, pickling, weights of samples,
names of features, callbacks. Networks are trained as `ldl.fit` trains them, in recorded steps, in
the type of X: give float32 for twice the speed of float64. Arrays of a GPU, CuPy's, are trained on
and predicted from where they are.

    from ldl.sklearn import MLPClassifier

    model = make_pipeline(StandardScaler(), MLPClassifier((64, 64))).fit(X, y)

Needs scikit-learn: pip install 'ldl[sklearn]'.
"""

try:
    import sklearn as _  # noqa: F401
except ImportError as error:
    raise ImportError("ldl.sklearn needs scikit-learn: pip install scikit-learn") from error

from ldl.sklearn.autoencoder import AutoEncoder
from ldl.sklearn.classifier import MLPClassifier
from ldl.sklearn.detector import AutoEncoderDetector
from ldl.sklearn.regressor import MLPRegressor

__all__ = ["AutoEncoder", "AutoEncoderDetector", "MLPClassifier", "MLPRegressor"]
