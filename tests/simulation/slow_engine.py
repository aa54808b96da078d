"""The engine's rules once more, as plainly and slowly as possible: every number is summed up anew."""

from dataclasses import dataclass, field


@dataclass(eq=False)
class SlowRequest:
    name: str
    input_tokens: int
    output_tokens: int
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    generated_tokens: int = 0

    @property
    def decodes(self):
        return self.prefilled_tokens == self.prompt_tokens

    @property
    def kv_tokens(self):
        """All of the prompt is reserved when its prefill begins; later tokens as they come."""
        return self.input_tokens + self.generated_tokens if self.decodes else self.prompt_tokens


@dataclass
class SlowEngine:
    budget: int
    max_seqs: int
    capacity: int
    waiting: list = field(default_factory=list)
    running: list = field(default_factory=list)  # in the order in which they were admitted
    preemptions: int = 0
    plan: list = field(default_factory=list)  # (request, prompt tokens), 0 for one that decodes

    @property
    def decoding(self):
        return [request for request in self.running if request.decodes]

    @property
    def kv_tokens(self):
        return sum(request.kv_tokens for request in self.running)

    @property
    def decode_context_tokens(self):
        return sum(request.kv_tokens for request in self.decoding)

    def submit(self, request):
        self.waiting.append(request)

    def abort(self, request):
        self.waiting = [other for other in self.waiting if other is not request]
        self.running = [other for other in self.running if other is not request]

    def start(self):
        """The batch as (decoding, their context, prefill tokens, context of those), or None when there is no work."""
        while len(self.running) > 1 and self.kv_tokens + len(self.decoding) > self.capacity:
            self._preempt(self.running.pop())
        self.plan = [(request, 0) for request in self.decoding]
        budget = self.budget - len(self.plan)
        for request in [request for request in self.running if not request.decodes]:
            budget -= self._plan_chunk(request, budget)
        while budget > 0 and self.waiting and len(self.running) < self.max_seqs:
            request = self.waiting[0]
            request.prompt_tokens = request.input_tokens + request.generated_tokens
            if self.kv_tokens + request.prompt_tokens + len(self.decoding) > self.capacity:
                break
            self.running.append(self.waiting.pop(0))
            budget -= self._plan_chunk(request, budget)
        if not self.plan:
            return None
        chunks = [(request, tokens) for request, tokens in self.plan if tokens]
        return (
            len(self.decoding),
            self.decode_context_tokens,
            sum(tokens for _, tokens in chunks),
            sum(request.prefilled_tokens for request, _ in chunks),
        )

    def finish(self):
        """Names of the requests that got a token, and of those that are done with it."""
        emitted, finished = [], []
        for request, tokens in self.plan:
            if request not in self.running:
                continue
            request.prefilled_tokens += tokens
            if tokens and not request.decodes:
                continue
            request.generated_tokens += 1
            emitted.append(request.name)
            if request.generated_tokens == request.output_tokens:
                self.running.remove(request)
                finished.append(request.name)
        self.plan = []
        return emitted, finished

    def _plan_chunk(self, request, budget):
        tokens = min(budget, request.prompt_tokens - request.prefilled_tokens)
        if tokens > 0:
            self.plan.append((request, tokens))
        return max(0, tokens)

    def _preempt(self, request):
        request.prefilled_tokens = request.prompt_tokens = 0
        self.waiting.insert(0, request)
        self.preemptions += 1
