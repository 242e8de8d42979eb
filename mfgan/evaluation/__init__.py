"""How good a recommender is: exact ranking metrics, intervals, tests and honest baselines."""
