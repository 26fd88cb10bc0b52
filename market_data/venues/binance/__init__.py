"""Binance USDⓈ-M futures: the streams of mark prices and candles."""
