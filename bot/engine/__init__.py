"""The batching engine on llama.cpp and the protocol it shares with remote backends."""
