"""A row of a product is the same bit for bit, alone or among others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.estimators.rows import product

size = st.integers(0, 9)


@settings(max_examples=30, deadline=None)
@given(size, size, size, st.integers(0, 2**32 - 1))
def test_products_are_those_of_mathematics(rows, inner, columns, seed):
    rng = np.random.default_rng(seed)
    x, weights = rng.normal(size=(rows, inner)), rng.normal(size=(inner, columns))
    np.testing.assert_allclose(product(x, weights), x @ weights, atol=1e-12)
    np.testing.assert_allclose(product(weights.T, x.T), weights.T @ x.T, atol=1e-12)


@pytest.mark.parametrize("rows", [2, 64])
def test_a_row_alone_is_that_of_the_batch(rows):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(rows, 95)), rng.normal(size=(95, 33))
    alone = np.concatenate([product(row[None], weights) for row in x])
    np.testing.assert_array_equal(product(x, weights), alone)
