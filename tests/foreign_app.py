"""An application of somebody else's on a Ray cluster that we deploy to."""

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Hello:
    """Answers."""

    def __call__(self) -> str:
        return "hello"


app = Hello.bind()
