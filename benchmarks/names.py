"""Names of implementations, for those who read results without ldl."""

TRAIN_STEP = "ldl.TrainStep"
SEVERAL = "ldl.TrainStep, several steps a launch"
WITHOUT = "ldl.TrainStep without "
PREDICTOR = "ldl.Predictor"
EAGER = "ldl, eager"
FLOOR = "matrix products alone (floor)"
ALONE, ONE, ALL = "without world=", "world= of one rank", "world= of all ranks"
