"""From a row of the model catalogue to the content of a Hugging Face ``config.json``.

Owns the mapping of families to `model_type`; the field names are in
campaign/catalogue/dialects.py. A family without a class in transformers is built as one of the same
matrices: Baichuan2, InternLM and MiniCPM as Llama, ChatGLM3 as GLM, Orion as StableLM, DeepSeek-MoE
as GLM-4-MoE, GPT-Neo as GPT-2 (which has the biases of queries, keys and values that GPT-Neo lacks,
0.03 %, and no local attention). Never imports transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from campaign.catalogue import dialects
from campaign.catalogue.dialects import Sizes
from db.errors import ConfigError
from db.records import Scalar
from workers.shapes.shape import Architecture

Fields = Callable[[Sizes], dict[str, Scalar]]

LLAMA = ("llama", "LlamaForCausalLM", dialects.llama)
QWEN2 = ("qwen2", "Qwen2ForCausalLM", dialects.qwen2)
NEOX = ("gpt_neox", "GPTNeoXForCausalLM", dialects.plain)
GPT2 = ("gpt2", "GPT2LMHeadModel", dialects.gpt2)

FAMILIES: Mapping[str, tuple[str, str, Fields]] = {
    "llama1": LLAMA,
    "llama2": LLAMA,
    "llama3": LLAMA,
    "codellama": LLAMA,
    "smollm": LLAMA,
    "yi": LLAMA,
    "salamandra": LLAMA,
    "falcon3": LLAMA,
    "granite-code": LLAMA,
    "internlm2": LLAMA,
    "internlm": ("llama", "LlamaForCausalLM", dialects.biased),
    "baichuan": LLAMA,
    "minicpm": LLAMA,
    "mistral": ("mistral", "MistralForCausalLM", dialects.windowed),
    "qwen1.5": QWEN2,
    "qwen2": QWEN2,
    "qwen2.5": QWEN2,
    "qwen3": ("qwen3", "Qwen3ForCausalLM", dialects.llama),
    "gemma": ("gemma", "GemmaForCausalLM", dialects.llama),
    "gemma2": ("gemma2", "Gemma2ForCausalLM", dialects.windowed),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM", dialects.windowed),
    "phi": ("phi", "PhiForCausalLM", dialects.plain),
    "phi3": ("phi3", "Phi3ForCausalLM", dialects.phi3),
    "olmo": ("olmo", "OlmoForCausalLM", dialects.llama),
    "olmo2": ("olmo2", "Olmo2ForCausalLM", dialects.llama),
    "olmo3": ("olmo3", "Olmo3ForCausalLM", dialects.windowed),
    "granite": ("granite", "GraniteForCausalLM", dialects.llama),
    "stablelm": ("stablelm", "StableLmForCausalLM", dialects.llama),
    "orion": ("stablelm", "StableLmForCausalLM", dialects.orion),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM", dialects.windowed),
    "opt": ("opt", "OPTForCausalLM", dialects.opt),
    "gpt2": GPT2,
    "gpt-neo": GPT2,
    "gpt-j": ("gptj", "GPTJForCausalLM", dialects.gpt2),
    "gpt-neox": NEOX,
    "gpt-bigcode": ("gpt_bigcode", "GPTBigCodeForCausalLM", dialects.bigcode),
    "pythia": NEOX,
    "bloom": ("bloom", "BloomForCausalLM", dialects.bloom),
    "mpt": ("mpt", "MptForCausalLM", dialects.mpt),
    "falcon": ("falcon", "FalconForCausalLM", dialects.falcon),
    "chatglm": ("glm", "GlmForCausalLM", dialects.glm),
    "mixtral": ("mixtral", "MixtralForCausalLM", dialects.mixtral),
    "phimoe": ("phimoe", "PhimoeForCausalLM", dialects.phimoe),
    "qwen-moe": ("qwen2_moe", "Qwen2MoeForCausalLM", dialects.qwen2_moe),
    "qwen3-moe": ("qwen3_moe", "Qwen3MoeForCausalLM", dialects.qwen3_moe),
    "olmoe": ("olmoe", "OlmoeForCausalLM", dialects.olmoe),
    "granite-moe": ("granitemoe", "GraniteMoeForCausalLM", dialects.granite_moe),
    "gpt-oss": ("gpt_oss", "GptOssForCausalLM", dialects.mixtral),
    "deepseek-moe": ("glm4_moe", "Glm4MoeForCausalLM", dialects.glm4_moe),
    "deepseek-v2": ("deepseek_v2", "DeepseekV2ForCausalLM", dialects.deepseek),
    "deepseek-v3": ("deepseek_v3", "DeepseekV3ForCausalLM", dialects.deepseek),
    "cohere": ("cohere", "CohereForCausalLM", dialects.llama),
    "apertus": ("apertus", "ApertusForCausalLM", dialects.llama),
}


def require_family(model: str, family: object) -> str:
    """Return a family that is mapped. Raises ConfigError for any other."""
    if isinstance(family, str) and family in FAMILIES:
        return family
    why = f": family {family} cannot be built from the catalogue" if family else " lacks family"
    raise ConfigError(
        f"model {model}{why}; supported: {', '.join(sorted(FAMILIES))}; or give a folder with its "
        "config.json"
    )


def architecture(sizes: Sizes) -> Architecture:
    """Return the ``config.json`` of a row, whose family is one of these."""
    model_type, name, fields = FAMILIES[sizes.family]
    return {"model_type": model_type, "architectures": (name,), **fields(sizes)}
